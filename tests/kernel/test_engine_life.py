"""The engine behind its API with real shims: waits, events, volumes, and what a killed process leaves."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan.client.wire import Connection, Response
from support.engine import until
from support.sampan import Sampan, has_ended


class Api:
    """Requests to an instance's engine."""

    def __init__(self, sampan: Sampan) -> None:
        self.sampan = sampan
        sampan("ps")  # starts it

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = Connection(str(self.sampan.socket))
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        response = connection.request(method, f"/v1.50{path}", data, headers)
        text = response.read()
        connection.close()
        try:
            return response.status, json.loads(text)
        except ValueError:  # nothing, or a line for each object
            return response.status, text.decode()

    def create(self, *cmd: str, host: dict[str, Any] | None = None, name: str = "", **fields: Any) -> str:
        body = {"Image": "busybox", "Cmd": list(cmd), "HostConfig": host or {}, **fields}
        status, answer = self("POST", f"/containers/create?name={name}", body)
        assert status == 201, answer
        return answer["Id"]

    def run(self, *cmd: str, **how: Any) -> str:
        id = self.create(*cmd, **how)
        status, answer = self("POST", f"/containers/{id}/start")
        assert status == 204, answer
        return id

    def wait(self, id: str, condition: str = "not-running") -> int:
        return self("POST", f"/containers/{id}/wait?condition={condition}")[1]["StatusCode"]

    @contextmanager
    def waiting(self, id: str, condition: str) -> Iterator[Response]:
        """Wait from here on, as the answer's head says that comes at once; its body comes with the exit."""
        connection = Connection(str(self.sampan.socket))
        yield connection.request("POST", f"/v1.50/containers/{id}/wait?condition={condition}").check()
        connection.close()

    def state(self, id: str) -> dict[str, Any]:
        return self("GET", f"/containers/{id}/json")[1]["State"]

    def events(self, **filters: list[str]) -> list[dict[str, Any]]:
        """All that has happened so far."""
        until_s = f"{time.time():.6f}"
        _, text = self("GET", f"/events?since=1&until={until_s}&filters={json.dumps(filters).replace(' ', '')}")
        return [text] if isinstance(text, dict) else [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def api(sampan: Sampan) -> Api:
    return Api(sampan)


def thread(function: Any, *args: Any) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    found = threading.Thread(target=lambda: results.append(function(*args)), daemon=True)
    found.start()
    return found, results


def test_waiting_for_the_next_exit_sees_one_that_comes_at_once(api: Api) -> None:
    id = api.create("sh", "-c", "exit 5")

    with api.waiting(id, "next-exit") as answer:
        api("POST", f"/containers/{id}/start")
        assert answer.json()["StatusCode"] == 5


def test_a_container_with_rm_is_gone_when_removed_is_told(api: Api) -> None:
    id = api.create("sh", "-c", "exit 6", host={"AutoRemove": True})

    with api.waiting(id, "removed") as answer:
        api("POST", f"/containers/{id}/start")
        assert answer.json()["StatusCode"] == 6
    assert api("GET", f"/containers/{id}/json")[0] == 404


def test_a_failed_start_leaves_a_created_container_with_its_reason(api: Api) -> None:
    id = api.create("/no/such/program")

    status, answer = api("POST", f"/containers/{id}/start")

    assert status == 400
    assert "no such file or directory" in answer["message"]
    state = api.state(id)
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 127, answer["message"])


def test_the_life_of_a_container_in_events(api: Api) -> None:
    id = api.run("sh", "-c", "exit 2", name="eventful")
    api.wait(id)
    api("DELETE", f"/containers/{id}")

    told = [(e["Action"], e["Actor"]["Attributes"].get("exitCode")) for e in api.events(container=[id])]

    assert told == [("create", None), ("start", None), ("die", "2"), ("destroy", None)]


def test_a_container_starts_again_after_its_end(api: Api) -> None:
    id = api.run("sh", "-c", "echo x >> /runs; exit $(wc -l < /runs)")

    for runs in (1, 2, 3):
        assert api.wait(id) == runs
        if runs < 3:
            assert api("POST", f"/containers/{id}/start")[0] == 204


def test_what_is_asked_twice_is_not_modified(api: Api) -> None:
    id = api.run("sleep", "100")

    assert api("POST", f"/containers/{id}/start")[0] == 304
    assert api("POST", f"/containers/{id}/stop?t=0")[0] == 204
    assert api("POST", f"/containers/{id}/stop?t=0")[0] == 304


def test_a_running_container_is_not_removed_without_force(api: Api) -> None:
    id = api.run("sleep", "100", name="busy")

    status, answer = api("DELETE", "/containers/busy")

    assert status == 409
    assert answer["message"].startswith('cannot remove container "/busy": container is running: stop the container')
    assert api("DELETE", f"/containers/{id}?force=1")[0] == 204


def test_a_paused_container_can_be_killed(api: Api) -> None:
    id = api.run("sleep", "100")
    assert api("POST", f"/containers/{id}/pause")[0] == 204
    assert api.state(id)["Status"] == "paused"

    assert api("POST", f"/containers/{id}/kill")[0] == 204

    assert api.wait(id) == 137


def test_a_volume_of_the_image_is_filled_shared_and_removed_with_v(api: Api) -> None:
    id = api.run("sh", "-c", "cat /etc/passwd > /dev/null && ls /etc", Volumes={"/etc": {}})
    api.wait(id)
    (mount,) = api("GET", f"/containers/{id}/json")[1]["Mounts"]

    assert (mount["Type"], mount["Destination"]) == ("volume", "/etc")
    assert Path(mount["Source"], "passwd").exists()
    api("DELETE", f"/containers/{id}?v=1")
    assert not Path(mount["Source"]).exists()


def test_a_named_volume_outlives_its_containers(api: Api) -> None:
    first = api.run("sh", "-c", "echo kept > /data/f", host={"Binds": ["keep:/data"]})
    assert api.wait(first) == 0
    api("DELETE", f"/containers/{first}?v=1")

    second = api.run("grep", "kept", "/data/f", host={"Binds": ["keep:/data:ro"]})

    assert api.wait(second) == 0


def test_joined_namespaces_are_one(api: Api) -> None:
    base = api.run("sleep", "100", name="base", host={"IpcMode": "shareable"})
    joined = api.run(
        "sh",
        "-c",
        'for n in net ipc pid; do test "$(readlink /proc/self/ns/$n)" = "$(readlink /proc/1/ns/$n)" || exit 3; done',
        host={"PidMode": "container:base", "NetworkMode": f"container:{base[:12]}", "IpcMode": "container:base"},
    )

    assert api.wait(joined) == 0


def test_joining_what_does_not_run_is_refused(api: Api) -> None:
    api.create("true", name="still")
    id = api.create("true", host={"PidMode": "container:still"})

    status, answer = api("POST", f"/containers/{id}/start")

    assert status == 409
    assert "cannot join namespaces of a non running container" in answer["message"]


def test_a_wrong_request_leaves_nothing(api: Api) -> None:
    before = sorted(os.listdir(api.sampan.root / "containers"))

    status, answer = api("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Memory": 1}, "Cmd": ["x"]})

    assert (status, answer["message"]) == (400, "Minimum memory limit allowed is 6MB")
    assert sorted(os.listdir(api.sampan.root / "containers")) == before


# -------------------------------------------------------------------------------------------------- killed processes


def kill_server(sampan: Sampan) -> None:
    pid = sampan.info("ServerPid")
    os.kill(pid, signal.SIGKILL)
    until(lambda: has_ended(pid))


def test_an_exit_while_the_server_was_dead_is_known_after(api: Api) -> None:
    id = api.run("sh", "-c", "sleep 0.5; exit 9")
    gone = api.run("sh", "-c", "sleep 0.5; exit 9", host={"AutoRemove": True})
    kill_server(api.sampan)

    until(lambda: api.state(id)["Status"] == "exited")

    assert api.state(id)["ExitCode"] == 9
    until(lambda: api("GET", f"/containers/{gone}/json")[0] == 404)


def test_an_exec_goes_on_over_the_servers_death_and_its_status_is_known(api: Api) -> None:
    id = api.run("sleep", "100")
    _, made = api("POST", f"/containers/{id}/exec", {"Cmd": ["sh", "-c", "sleep 1; exit 8"]})
    assert api("POST", f"/exec/{made['Id']}/start", {"Detach": True})[0] == 200
    kill_server(api.sampan)

    found = until(lambda: [e] if (e := api("GET", f"/exec/{made['Id']}/json")[1])["ExitCode"] is not None else [])

    assert found[0]["ExitCode"] == 8


def test_when_keeper_and_shim_are_killed_the_state_says_so(api: Api) -> None:
    id = api.run("sleep", "1000")
    init = api.state(id)["Pid"]
    shim = int(Path(f"/proc/{init}/stat").read_text().rpartition(")")[2].split()[1])
    keeper = api.sampan.info("KeeperPid")
    for pid in (keeper, shim, init):
        os.kill(pid, signal.SIGKILL)

    until(lambda: api.state(id)["Status"] == "exited", timeout_s=20)

    assert api("GET", "/info")[1]["KeeperPid"] != keeper
    assert api.run("true")


def test_a_start_whose_keeper_is_killed_before_it_forks_begins_again(api: Api) -> None:
    id = api.create("sh", "-c", "exit 6")
    keeper = api.sampan.info("KeeperPid")
    os.kill(keeper, signal.SIGSTOP)
    starting, answers = thread(api, "POST", f"/containers/{id}/start")
    time.sleep(0.3)

    os.kill(keeper, signal.SIGKILL)
    starting.join(20)

    assert answers == [(204, "")]
    assert api.wait(id) == 6


def test_an_exec_that_was_not_started_is_forgotten_with_the_server_and_that_is_said(api: Api) -> None:
    id = api.run("sleep", "60")
    made = api("POST", f"/containers/{id}/exec", {"Cmd": ["true"]})[1]["Id"]
    kill_server(api.sampan)

    status, answer = api("POST", f"/exec/{made}/start", {"Detach": True})

    assert (status, answer["message"]) == (404, f"No such exec instance: {made}")
    assert "make it again" in answer["hint"]


def test_following_the_log_of_a_container_that_was_never_started_ends_at_once_as_dockers_does(api: Api) -> None:
    id = api.create("true")

    assert api("GET", f"/containers/{id}/logs?follow=1&stdout=1") == (200, "")


def test_an_images_healthcheck_is_the_containers(api: Api, busybox_tar: Path) -> None:
    api.sampan("import", "--change", "HEALTHCHECK --retries=7 CMD true", busybox_tar, "healthy")

    _, made = api(
        "POST", "/containers/create", {"Image": "healthy", "Cmd": ["true"], "Healthcheck": {"Timeout": 10**9}}
    )
    _, found = api("GET", f"/containers/{made['Id']}/json")

    assert found["Config"]["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Timeout": 10**9, "Retries": 7}


def test_what_a_crash_left_without_a_record_is_swept(api: Api) -> None:
    kept = api.create("true")
    root = api.sampan.root
    orphan = root / "containers" / ("a" * 64)
    (orphan / "upper").mkdir(parents=True)
    (root / "volumes" / "orphan" / "_data").mkdir(parents=True)
    (root / "tmp" / "x").mkdir()

    kill_server(api.sampan)
    api("GET", "/info")

    assert not orphan.exists()
    assert not (root / "volumes" / "orphan").exists()
    assert os.listdir(root / "tmp") == []
    assert api.state(kept)["Status"] == "created"


def test_nobody_there_and_nothing_running_it_goes_away(instance: Sampan) -> None:
    instance.env["SAMPAN_IDLE_S"] = "0.5"
    instance("ps")
    pids = [instance.info("ServerPid"), instance.info("KeeperPid")]

    until(lambda: all(has_ended(pid) for pid in pids))

    assert instance("ps").code == 0


@pytest.mark.parametrize("field", ["NetworkMode", "PidMode", "IpcMode"])
def test_joining_a_container_that_is_not_there_is_no_404_that_would_have_the_image_pulled(api: Api, field: str) -> None:
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {field: "container:nosuch"}}

    status, answer = api("POST", "/containers/create", body)

    assert (status, answer["message"]) == (400, "No such container: nosuch")
