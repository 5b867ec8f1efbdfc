"""Whole lives of containers through the API, with all that may be left behind: for tests of leaks and the soak."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from sampan.client.streams import Stream, gather
from sampan.client.wire import Connection
from support.conflicts import ask
from support.sampan import Sampan

SERVES = "trap 'exit 3' TERM; echo begun; while :; do sleep 1000 & wait $!; done"


def live(sampan: Sampan, name: str) -> None:
    """One life: clients that leave early, execs, a pause, an update, two runs, a volume, a published port; removed."""
    call = Calls(sampan)
    id = call("POST", f"/containers/create?name={name}", body("sh", "-c", SERVES), 201)["Id"]
    path = f"/containers/{id}"
    leave(sampan, "POST", f"{path}/attach?stream=1&stdout=1")
    call("POST", f"{path}/start", None, 204)
    for begun in (f"{path}/logs?follow=1&stdout=1", f"{path}/stats", "/events"):
        leave(sampan, "GET", begun)
    leave(sampan, "POST", f"{path}/wait")
    leave(sampan, "POST", f"{path}/attach?stream=1&stdout=1&stdin=1")
    assert execute(sampan, id, "echo hi; exit 7") == (7, b"hi\n")
    call("POST", f"{path}/exec", {"Cmd": ["true"]}, 201)  # and never started
    call("POST", f"{path}/pause", None, 204)
    call("POST", f"{path}/unpause", None, 204)
    call("POST", f"{path}/update", {"Memory": 96 << 20, "MemorySwap": -1}, 200)
    call("GET", f"{path}/top", None, 200)
    call("POST", f"{path}/rename?name={name}-again", None, 204)
    call("POST", f"{path}/restart?t=1", None, 204)
    call("POST", f"{path}/kill", None, 204)
    call("DELETE", f"{path}?v=1", None, 204)
    fails = call("POST", "/containers/create", body("/no/such/program"), 201)["Id"]
    call("POST", f"/containers/{fails}/start", None, 400)
    call("DELETE", f"/containers/{fails}?v=1", None, 204)


class Calls:
    """Requests whose status is known before."""

    def __init__(self, sampan: Sampan) -> None:
        self._sampan = sampan

    def __call__(self, method: str, path: str, given: Any, expected: int) -> Any:
        status, said = ask(self._sampan, method, path, given)
        assert status == expected, (method, path, status, said, self._sampan.log())
        return json.loads(said) if said else None


def body(*command: str) -> dict[str, Any]:
    return {
        "Image": "busybox",
        "Cmd": command,
        "Volumes": {"/data": {}},
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 50_000_000},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": ""}]}, "Memory": 64 << 20, "MemorySwap": -1},
    }


def leave(sampan: Sampan, method: str, path: str) -> None:
    """Ask for what goes on, and leave when it has begun."""
    connection = Connection(str(sampan.socket))
    if "/attach" in path:
        connection.hijack(method, f"/v1.50{path}").socket.close()
    else:
        assert connection.request(method, f"/v1.50{path}").status == 200
        connection.close()


def execute(sampan: Sampan, id: str, script: str) -> tuple[int, bytes]:
    """Run a shell's script in a container; its code and output."""
    given = {"Cmd": ["sh", "-c", script], "AttachStdout": True, "AttachStderr": True}
    exec_id = json.loads(ask(sampan, "POST", f"/containers/{id}/exec", given)[1])["Id"]
    hijacked = Connection(str(sampan.socket)).hijack("POST", f"/v1.50/exec/{exec_id}/start", b"{}")
    with Stream(hijacked, tty=False) as stream:
        out, _ = gather(stream)
    return json.loads(ask(sampan, "GET", f"/exec/{exec_id}/json")[1])["ExitCode"], out


def at_once(many: int, total: int, work: Callable[[int], None]) -> None:
    """Call `work` with 0 to `total` - 1, `many` of them at a time; the first failure is raised at the end."""
    numbers, failures = iter(range(total)), list[BaseException]()
    lock = threading.Lock()

    def run() -> None:
        while not failures:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                work(number)
            except BaseException as e:
                failures.append(e)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
