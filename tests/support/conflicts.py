"""Many clients doing conflicting things to the same few containers at once, and what must be true of their answers.

The order in which the verbs take effect is not known, but the events tell it: what a caller was answered must have
happened as often as it was answered, and the events of a container must be those of a life that is possible.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sampan.client.streams import Stream, gather
from sampan.client.wire import Connection, ConnectionLost, Unreachable
from sampan.errors import SampanError
from support.faults import roles, status
from support.sampan import Sampan, last_seen, wait_until

NAMES = ("web", "bew")
PROGRAM = "trap 'exit 3' TERM; trap 'exit 4' USR1; echo begun; while :; do sleep 1000 & wait $!; done"
LIMITS = (64 << 20, 96 << 20, 128 << 20)
REFUSALS = {
    404: r"No such container: |No such exec instance: ",
    409: r"is not running|is paused, unpause|is already paused|is not paused|cannot start a paused|already in use by"
    r"|marked for removal|is being removed|stop the container before removing|must be unpaused first"
    r"|removal of container \S+ is already in progress|has just ended|paused .* can't be attached",
    400: r"the same name as its current name",
}
"""Docker's words for what a caller may hear; anything else is a failure of the engine."""

LONGEST_S = 60

ALONE = {"NetworkMode": "none"}
CONNECTED = {"RestartPolicy": {"Name": "always"}, "PortBindings": {"80/tcp": [{"HostPort": ""}]}}


def body(host: Mapping[str, Any]) -> dict[str, Any]:
    limits = {"Memory": LIMITS[0], "MemorySwap": -1}
    return {"Image": "busybox", "Cmd": ["sh", "-c", PROGRAM], "HostConfig": {**limits, **host}}


class Answer(NamedTuple):
    """What a caller was told; status 0: the server was killed before it could say."""

    verb: str
    status: int
    said: str
    took_s: float


class Caller:
    """One client: a random verb after another, each on a connection of its own."""

    def __init__(self, sampan: Sampan, seed: str, verbs: Mapping[str, int], host: Mapping[str, Any], each: int) -> None:
        self.thread = threading.Thread(target=self._run, name=seed, daemon=True)
        self._sampan = sampan
        self._host = host
        self._random = random.Random(seed)
        self._verbs = self._random.choices(list(verbs), list(verbs.values()), k=each)
        self.answers: list[Answer] = []
        self.lies: list[str] = []
        self.at = ""
        self.loses = False  # connections: the server is being killed
        self.broken: BaseException | None = None

    def _run(self) -> None:
        try:
            for verb in self._verbs:
                self.at = verb
                begin = time.monotonic()
                try:
                    status, said = getattr(self, verb)(self._random.choice(NAMES))
                except (ConnectionLost, Unreachable) as e:
                    if not self.loses:
                        raise
                    status, said = 0, e.message
                    time.sleep(0.02)
                self.answers.append(Answer(verb, status, said, time.monotonic() - begin))
            self.at = ""
        except BaseException as e:
            self.broken = e

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        return ask(self._sampan, method, path, body)

    def create(self, name: str) -> tuple[int, str]:
        return self.ask("POST", f"/containers/create?name={name}", body(self._host))

    def start(self, name: str) -> tuple[int, str]:
        return self.ask("POST", f"/containers/{name}/start")

    def stop(self, name: str) -> tuple[int, str]:
        return self.ask("POST", f"/containers/{name}/stop?t={self._random.choice((0, 1))}")

    def restart(self, name: str) -> tuple[int, str]:
        return self.ask("POST", f"/containers/{name}/restart?t=1")

    def kill(self, name: str) -> tuple[int, str]:
        return self.ask("POST", f"/containers/{name}/kill?signal={self._random.choice(('KILL', 'TERM', 'USR1'))}")

    def pause(self, name: str) -> tuple[int, str]:
        return self.ask("POST", f"/containers/{name}/pause")

    def unpause(self, name: str) -> tuple[int, str]:
        return self.ask("POST", f"/containers/{name}/unpause")

    def rename(self, name: str) -> tuple[int, str]:
        return self.ask("POST", f"/containers/{name}/rename?name={self._random.choice(NAMES)}")

    def update(self, name: str) -> tuple[int, str]:
        return self.ask("POST", f"/containers/{name}/update", {"Memory": self._random.choice(LIMITS), "MemorySwap": -1})

    def remove(self, name: str) -> tuple[int, str]:
        return self.ask("DELETE", f"/containers/{name}?force={self._random.choice((0, 1))}")

    def inspect(self, name: str) -> tuple[int, str]:
        status, said = self.ask("GET", f"/containers/{name}/json")
        if status == 200:
            state = json.loads(said)["State"]
            if bool(state["Pid"]) != (state["Running"] and not state["Restarting"]):
                self.lies.append(f"a state that is none: {state}")
        return status, said

    def top(self, name: str) -> tuple[int, str]:
        return self.ask("GET", f"/containers/{name}/top")

    def list(self, name: str) -> tuple[int, str]:
        return self.ask("GET", "/containers/json?all=1")

    def logs(self, name: str) -> tuple[int, str]:
        return self.ask("GET", f"/containers/{name}/logs?stdout=1")

    def wait(self, name: str) -> tuple[int, str]:
        """Wait beside the others: who waits for the end of one that is left running at the end hears of its removal."""
        status, said = self.ask("POST", f"/containers/{name}/wait?condition={self._random.choice(('', 'removed'))}")
        return status, said

    def attach(self, name: str) -> tuple[int, str]:
        """Attach, and go without a word."""
        connection = Connection(str(self._sampan.socket))
        try:
            connection.hijack("POST", f"/v1.50/containers/{name}/attach?stream=1&stdout=1").socket.close()
        except SampanError as e:
            return e.http_status, e.message
        return 200, ""

    def execute(self, name: str) -> tuple[int, str]:
        """Run something whose output and code are known, if the container lets it."""
        token = f"{self._random.getrandbits(60):x}"
        body = {"Cmd": ["sh", "-c", f"echo {token}; exit 7"], "AttachStdout": True, "AttachStderr": True}
        status, said = self.ask("POST", f"/containers/{name}/exec", body)
        if status != 201:
            return status, said
        id = json.loads(said)["Id"]
        connection = Connection(str(self._sampan.socket))
        try:
            hijacked = connection.hijack("POST", f"/v1.50/exec/{id}/start", b'{"Detach": false}')
        except SampanError as e:
            return e.http_status, e.message
        with Stream(hijacked, tty=False) as stream:
            out, err = gather(stream)
        status, said = self.ask("GET", f"/exec/{id}/json")
        if status != 200:
            return status, said
        found = json.loads(said)
        if found["Running"]:
            self.lies.append(f"an exec whose output has ended is said to run: {said}")
        if found["ExitCode"] == 7 and out.decode() != f"{token}\n":
            self.lies.append(f"an exec has ended well and said {out!r} {err!r}, not {token}")
        if found["ExitCode"] not in (7, 137) and not (found["ExitCode"] == 126 and not out):
            self.lies.append(f"an exec ended with {found['ExitCode']}: {out!r} {err!r}")
        return 200, err.decode()


VERBS = {
    "start": 9, "stop": 4, "restart": 3, "kill": 3, "pause": 3, "unpause": 4, "rename": 2, "update": 2, "execute": 4,
    "attach": 2, "inspect": 1, "top": 1, "list": 1, "logs": 1,
}  # fmt: skip
"""How often what is done."""

REMOVING = {**VERBS, "create": 6, "remove": 3, "wait": 2}


def ask(sampan: Sampan, method: str, path: str, body: Any = None) -> tuple[int, str]:
    connection = Connection(str(sampan.socket))
    try:
        data = None if body is None else json.dumps(body).encode()
        answer = connection.request(method, f"/v1.50{path}", data)
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


@contextmanager
def watched(sampan: Sampan) -> Iterator[list[dict[str, Any]]]:
    """Yield the list that all events of containers come into, complete when the `with` has ended."""
    events: list[dict[str, Any]] = []
    connection = Connection(str(sampan.socket))
    answer = connection.request("GET", '/v1.50/events?filters={"type":["container"]}')

    def read() -> None:
        for line in answer.lines():
            events.append(json.loads(line))
            if events[-1]["Action"] == "create" and events[-1]["Actor"]["Attributes"]["name"] == "the-last":
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield events
    finally:
        status, said = ask(sampan, "POST", "/containers/create?name=the-last", body(ALONE))
        reader.join(20)
        connection.close()
    assert status == 201, said
    assert not reader.is_alive()
    ask(sampan, "DELETE", "/containers/the-last")


def quarrel(
    sampan: Sampan,
    seed: str,
    verbs: Mapping[str, int],
    host: Mapping[str, Any] = ALONE,
    *,
    callers: int = 16,
    each: int,
) -> list[Answer]:
    """Let the callers go at it; check what they were told, and what there is afterwards. Return all answers."""
    everyone = [Caller(sampan, f"{seed}/{number}", verbs, host, each) for number in range(callers)]
    for name in NAMES:
        ask(sampan, "DELETE", f"/containers/{name}?force=1")
    with watched(sampan) as events:
        for name in NAMES:
            status, said = ask(sampan, "POST", f"/containers/create?name={name}", body(host))
            assert status == 201, said
        let_go(sampan, everyone, LONGEST_S + each / 2)
    wait_until(lambda: all(_stands_still(sampan, name) for name in NAMES), what="all signals have had their effect")
    answers = [answer for one in everyone for answer in one.answers]
    for one in everyone:
        assert one.broken is None, (seed, one.at, one.broken)
        assert not one.lies, (seed, one.lies, sampan.log())
    check_answers(answers, f"seed {seed}{sampan.log()}")
    check_lives(events, seed)
    check_counts(answers, events, seed, by_themselves="RestartPolicy" in host)
    for name in NAMES:
        check_truth(sampan, name, seed)
    assert "Traceback" not in sampan.log(), sampan.log()
    return answers


def let_go(sampan: Sampan, everyone: list[Caller], for_s: float) -> None:
    """Let the callers do all that they have to do."""
    for one in everyone:
        one.thread.start()
    end = time.monotonic() + for_s
    for one in everyone:
        while one.thread.is_alive() and time.monotonic() < end:
            one.thread.join(1)
            left = {other.at for other in everyone if other.thread.is_alive()}
            for name in NAMES if left and left <= {"wait", "execute"} else ():
                with suppress(ConnectionLost, Unreachable):
                    if left <= {"wait"}:  # whoever still waits is told of this
                        ask(sampan, "DELETE", f"/containers/{name}?force=1")
                    else:  # what is executed in one that was paused ends no sooner
                        ask(sampan, "POST", f"/containers/{name}/unpause")
    stuck = [f"{one.thread.name}: {one.at}" for one in everyone if one.thread.is_alive()]
    assert not stuck, f"no answer after {for_s} s: {stuck}{sampan.log()}"


def turmoil(sampan: Sampan, seed: str, verbs: Mapping[str, int], host: Mapping[str, Any], *, each: int) -> list[Answer]:
    """The same while server, keeper and shims are killed: no answer is counted on, only what there is afterwards."""
    everyone = [Caller(sampan, f"{seed}/{number}", verbs, host, each) for number in range(16)]
    for name in NAMES:
        ask(sampan, "POST", f"/containers/create?name={name}", body(host))
    over = threading.Event()
    killer = threading.Thread(target=_kill_about, args=(sampan, random.Random(seed), over), daemon=True)
    killer.start()
    for one in everyone:
        one.loses = True
    try:
        let_go(sampan, everyone, LONGEST_S + each)
    finally:
        over.set()
        killer.join()
    for one in everyone:
        assert one.broken is None, (seed, one.at, one.broken)
    for name in NAMES:
        check_truth(sampan, name, seed, patience_s=20)
    assert "Traceback" not in sampan.log(), sampan.log()
    return [answer for one in everyone for answer in one.answers]


def _kill_about(sampan: Sampan, chance: random.Random, over: threading.Event) -> None:
    while not over.wait(chance.uniform(0.05, 0.8)):
        role = chance.choices(("server", "shim", "keeper"), (3, 3, 1))[0]
        if victims := roles(sampan).get(role):
            with suppress(ProcessLookupError):
                os.kill(chance.choice(victims), signal.SIGKILL)
        sampan("ps", "-q")  # where both were killed the command line starts them


def check_answers(answers: list[Answer], note: str) -> None:
    """Each was done, or refused in words that were true at some moment."""
    for answer in answers:
        if answer.status < 400:
            continue
        expected = REFUSALS.get(answer.status)
        assert expected, (answer, note)
        assert re.search(expected, answer.said), (answer, note)


LIVES = re.compile(r"c(s(pu)*p?d)*(s(pu)*p?|x)?")
_LETTERS = {"create": "c", "start": "s", "pause": "p", "unpause": "u", "die": "d", "destroy": "x"}


def check_lives(events: list[dict[str, Any]], seed: str) -> None:
    """Of each container: it is created, starts, is paused and goes on, ends, starts again…, and is removed."""
    lives: dict[str, str] = {}
    for event in events:
        if letter := _LETTERS.get(event["Action"]):
            id = event["Actor"]["ID"]
            lives[id] = lives.get(id, "") + letter
    for life in lives.values():
        assert LIVES.fullmatch(life), f"seed {seed}: events in an order that can't be: {life}"


def check_counts(answers: list[Answer], events: list[dict[str, Any]], seed: str, *, by_themselves: bool) -> None:
    """Who was told that a thing was done has done it: the events tell as many of it."""
    told = Counter(answer.verb for answer in answers if answer.status in (200, 201, 204))
    happened = Counter(event["Action"] for event in events)
    note = (seed, told, happened)
    assert told["start"] <= happened["start"], note
    assert by_themselves or happened["start"] <= told["start"] + told["restart"], note
    assert told["pause"] == happened["pause"], note
    # A stop and a kill thaw too, and where a kill was first there is nothing to do.
    assert told["unpause"] <= happened["unpause"] + told["kill"] + told["remove"], note
    assert told["rename"] == happened["rename"], note
    assert told["update"] == happened["update"], note
    assert told["restart"] == happened["restart"], note
    assert happened["destroy"] <= told["remove"] + 4, note
    assert happened["die"] <= happened["start"] <= happened["die"] + 2, note


def settled(sampan: Sampan, name: str) -> Any:
    """What is said of a container that is not just about to start again; None where there is none."""

    def look() -> tuple[Any]:
        status, said = ask(sampan, "GET", f"/containers/{name}/json")
        found = json.loads(said) if status == 200 else None
        return () if found and found["State"]["Restarting"] else (found,)

    return wait_until(look, timeout=LONGEST_S)[0]  # it begins again after a minute at the latest


def _stands_still(sampan: Sampan, name: str) -> bool:
    """Whether nothing is about to end by itself: PROGRAM sleeps, and has taken every signal that it was sent.

    Who has a signal is awake, or stands in the freezer, until it has done what the signal wants.
    """
    state = (settled(sampan, name) or {}).get("State")
    if not state or not state["Running"] or state["Paused"]:
        return True
    said = status(state["Pid"])
    return "\nState:\tS" in said and not any(int(mask, 16) for mask in re.findall(r"\n(?:Sig|Shd)Pnd:\t(\w+)", said))


def check_truth(sampan: Sampan, name: str, note: str, *, patience_s: float = 0) -> None:
    """What the state says is so: processes, control groups, limits. `patience_s`: until a killed shim is given up."""
    lie = last_seen(lambda: _lie(sampan, settled(sampan, name)), timeout=patience_s)
    assert not lie, (note, name, lie, sampan.log())


def _lie(sampan: Sampan, found: Any) -> str:
    """Return what is not so of what is said of a container."""
    if not found:
        return ""
    state, id = found["State"], found["Id"]
    if state["Status"] not in ("created", "running", "paused", "exited"):
        return f"no state of one that nobody is at: {state}"
    if not wait_until(lambda: state["Running"] or not _inside(sampan, id), timeout=2, fail=False):
        return f"in what has ended runs {_inside(sampan, id)}"
    if state["Running"] and state["Pid"] not in _inside(sampan, id):
        return f"nothing runs: {state}"
    groups = [Path(group) for group in sampan.cgroups() if state["Running"] and group.endswith(id)]
    limits = [group / file for group in groups for file in ("memory.limit_in_bytes", "memory.max")]
    for file in limits:
        if file.exists() and int(file.read_text()) != found["HostConfig"]["Memory"]:
            return f"{file}: {file.read_text()}, not {found['HostConfig']['Memory']}"
    return ""


def _inside(sampan: Sampan, id: str) -> list[int]:
    return [pid for pid, _ in sampan.contained() if id in _cgroup(pid)]


def _cgroup(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""
