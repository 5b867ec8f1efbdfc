"""SIGKILL of server, keeper or shim at every named step of the verbs: whoever is hit, nothing is left, nothing is lost.

Each case lets one command come to one step, kills one process there and lets the rest go on. Then the answer must have
been true, the container must be in the state that was asked for, at the latest when the command is said once more, with
its exit status and its log lines, and what is removed must be gone. A part of the cases runs always, all of them with
`make faults`.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.faults import request, roles, say, status
from support.sampan import groups_named, new_root, wait_until
from support.steps import Stepped, Where, named, table

LINES = [str(n) for n in range(1, 10)]
COUNT = "for i in 1 2 3 4 5 6 7 8 9; do echo $i; done"
BUSY = f"""busybox sh -c "trap 'echo bye; exit 3' TERM; trap 'exit 5' HUP; {COUNT}; sleep 1000 & wait $!; exit 4" """
QUICK = f'busybox sh -c "{COUNT}; exit 7"'
EACH, FROM = int(os.environ.get("EACH", "1")), int(os.environ.get("FROM", "0"))
"""`make faults EACH=20` takes one case of twenty, and with FROM=1 to FROM=19 others."""
COMMON = ("create", "start", "exec", "stop", "rm -f")
SLOW = QUICK.replace("echo $i", "echo $i; usleep 2000")
MOST_DEATHS = 4
LEFT_BEHIND_S = 5.0
"""How long after a command's answer a step behind it is waited for."""


class Scenario(NamedTuple):
    """A command and what it takes. `!server` in its place is that one's death, `!server@STEP` before it at a step."""

    prepare: tuple[str, ...]
    act: str
    done: Callable[[Stepped], bool] = lambda _sampan: True  # whether it is as was asked for
    wait_s: float = 0  # for that
    code: int = 0
    ends: tuple[int, ...] = (3,)  # the exit codes that the container may have then


def api(sampan: Stepped, method: str, path: str) -> Any:
    """Ask the server without the price of a command; return what it answers."""
    try:
        answer = say(sampan, request(method, path), timeout=60)
    except (ConnectionRefusedError, FileNotFoundError):  # nobody was left to start another
        sampan("system", "start")
        answer = say(sampan, request(method, path), timeout=60)
    head, _, body = answer.partition(b"\r\n\r\n")
    return json.loads(body) if body and b"application/json" in head else head


def inspect(sampan: Stepped, name: str = "web") -> dict:
    return api(sampan, "GET", f"/containers/{name}/json")


def state(sampan: Stepped, name: str = "web") -> dict:
    return inspect(sampan, name).get("State", {"Status": "gone"})


def log(sampan: Stepped, name: str = "web") -> list[str]:
    """Return the words that are in the log; `logs` is asked where that is not one file of JSON."""
    path = Path(inspect(sampan, name)["LogPath"] or "/")
    if path.is_file() and not [*path.parent.glob(f"{path.name}.*")]:
        return "".join(json.loads(line)["log"] for line in path.read_text().splitlines()).split()
    return sampan("logs", name).out.split()


def is_in(*wanted: str) -> Callable[[Stepped], bool]:
    return lambda sampan: state(sampan)["Status"] in wanted


def ended_with(*codes: int) -> Callable[[Stepped], bool]:
    return lambda sampan: (found := state(sampan))["Status"] == "exited" and found["ExitCode"] in codes


def has(what: str, path: str = "/containers/web/json") -> Callable[[Stepped], bool]:
    return lambda sampan: what in json.dumps(api(sampan, "GET", path))


def lacks(what: str, path: str = "/containers/web/json") -> Callable[[Stepped], bool]:
    return lambda sampan: not has(what, path)(sampan)


CREATE = f"create --name web -v data:/etc -p 127.0.0.1::80 {BUSY}"
RUN = f"run -d --name web {BUSY}"
USES_NETWORK = "run --rm busybox true"
"""So that its bridge is there, whatever was done before."""
RUN_ON = "run -d --name web --network more -p 127.0.0.1::80"
TOKEN = "token /etc/hostname"
MUCH = (
    "--init --domainname example.org --sysctl kernel.shm_rmid_forced=1 --network none -v /etc:/host:ro --read-only "
    "--ulimit nofile=64 --oom-score-adj 5 --security-opt no-new-privileges --memory 64m --cpuset-cpus 0 --tmpfs /tmp "
    "--cap-drop all"
)
CHECKED = f"create --name web --health-interval 100ms --health-retries 1 --health-on-failure kill {{}} {BUSY}"
SCENARIOS = {
    "create": Scenario((), CREATE, is_in("created")),
    "start": Scenario((CREATE,), "start web", is_in("running")),
    "start -a": Scenario((f"create --name web {QUICK}",), "start -a web", ended_with(7), code=7, ends=(7,)),
    "run": Scenario((), f"run --name web {QUICK}", ended_with(7), code=7, ends=(7,)),
    "run --rm": Scenario((), f"run --rm --name web {QUICK}", is_in("gone"), code=7),
    "run -t": Scenario((), f"run -d -t {MUCH} --name web {BUSY}", is_in("running")),
    "run, not found": Scenario((), "run --name web busybox nothing", is_in("created"), code=127),
    "run -i": Scenario(
        (),
        f"run -i --name web busybox sh -c 'read x; [ $x ] && {COUNT}; exit 7'",
        ended_with(7),
        code=7,
        ends=(7,),
    ),
    "run --cgroup-parent": Scenario((), f"run -d --cgroup-parent sampan-faults --name web {BUSY}", is_in("running")),
    "run --rootfs": Scenario(
        (),
        f"run -d --name web -v {{tree}}:/mnt:O --rootfs {{tree}}:O {BUSY.removeprefix('busybox ')}",
        is_in("running"),
    ),
    "run --uidmap": Scenario(
        (), f"run -d --name web --uidmap 0:70000:65536 --gidmap 0:70000:65536 -v data:/etc:U {BUSY}", is_in("running")
    ),
    "run --explain": Scenario((), f"run --explain --name web {QUICK}", ended_with(7), code=7, ends=(7,)),
    "run, rotating": Scenario(
        (),
        f"run --name web --log-opt max-size=150 --log-opt max-file=50 {SLOW}",
        ended_with(7),
        code=7,
        ends=(7,),
    ),
    "run, compressing": Scenario(
        (),
        f"run --name web --log-opt max-size=300 --log-opt max-file=9 --log-opt compress=true {SLOW}",
        ended_with(7),
        code=7,
        ends=(7,),
    ),
    "run, log driver local": Scenario(
        (),
        f"run --name web --log-driver local --log-opt max-size=150 --log-opt max-file=9 {SLOW}",
        ended_with(7),
        code=7,
        ends=(7,),
    ),
    "run, log driver syslog": Scenario(
        (),
        f"run --name web --log-driver syslog --log-opt syslog-address=udp://127.0.0.1:514 {QUICK}",
        ended_with(7),
        code=7,
        ends=(7,),
    ),
    "run, on a network": Scenario(("network create more",), f"{RUN_ON} {BUSY}", is_in("running")),
    "run, joining": Scenario(
        (f"run -d --name other --ipc shareable {BUSY}",),
        f"run -d --name web --network container:other --ipc container:other --pid container:other {BUSY}",
        is_in("running"),
    ),
    "exec": Scenario((RUN,), 'exec web sh -c "echo in; exit 5"', code=5),
    "exec -t": Scenario((RUN,), 'exec -t web sh -c "exit 5"', code=5),
    "attach": Scenario(
        (f"run -d --name web {QUICK.replace('exit', 'sleep 2; exit')}",), "attach web", ended_with(7), code=7, ends=(7,)
    ),
    "stop": Scenario((RUN,), "stop web", ended_with(3)),
    "kill": Scenario((RUN,), "kill web", ended_with(137), ends=(137,)),
    "end": Scenario((RUN,), "kill -s HUP web", ended_with(5), 5, ends=(5,)),
    "restart": Scenario((RUN,), "restart web", is_in("running")),
    "pause": Scenario((RUN,), "pause web", is_in("paused")),
    "unpause": Scenario((RUN, "pause web"), "unpause web", is_in("running")),
    "rm": Scenario((CREATE,), "rm -v web", is_in("gone")),
    "rm -f": Scenario((CREATE, "start web"), "rm -f web", is_in("gone")),
    "prune": Scenario((CREATE,), "system prune -f --volumes", is_in("gone")),
    "rename": Scenario((RUN,), "rename web web2", has("web2", "/containers/json")),
    "update": Scenario((RUN,), "update -m 64m --cpuset-cpus 0 web", has("67108864")),
    "cp in": Scenario(
        (RUN,),
        "cp /etc/hostname web:/copied",
        lambda sampan: b"200 OK" in api(sampan, "HEAD", "/containers/web/archive?path=/copied"),
    ),
    "cp out": Scenario((RUN,), "cp web:/etc/passwd -"),
    "cp out of one that does not run": Scenario((CREATE,), "cp web:/etc/passwd -"),
    "diff": Scenario((RUN,), "diff web"),
    "export": Scenario((RUN,), "export -o /dev/null web"),
    "top": Scenario((RUN,), "top web -o pid,cmd"),
    "commit": Scenario((RUN,), "commit web made:1", has("made:1", "/images/json")),
    "network create": Scenario((), "network create more", has('"more"', "/networks")),
    "network rm": Scenario(("network create more",), "network rm more", lacks('"more"', "/networks")),
    "connect": Scenario((RUN, "network create more"), "network connect more web", has('"more"')),
    "disconnect": Scenario(
        ("network create more", RUN, "network connect more web"), "network disconnect more web", lacks('"more"')
    ),
    "volume create": Scenario((), "volume create data", has('"data"', "/volumes")),
    "volume rm": Scenario(("volume create data",), "volume rm data", lacks('"data"', "/volumes")),
    "secret create": Scenario((), f"secret create {TOKEN}", has('"token"', "/secrets")),
    "secret create --replace": Scenario(
        ("secret create token /etc/passwd",),
        f"secret create --replace {TOKEN}",
        has(b64encode(Path("/etc/hostname").read_bytes()).decode(), "/secrets/token?showsecret=1"),
    ),
    "secret rm": Scenario((f"secret create {TOKEN}",), "secret rm token", lacks('"token"', "/secrets")),
    "run --secret": Scenario(
        (f"secret create {TOKEN}",),
        f"run -d --secret token --secret token,type=env --name web {BUSY}",
        is_in("running"),
    ),
    "restart policy": Scenario(
        (f"run -d --name web --restart on-failure:1 {BUSY}",),
        "kill -s HUP web",
        lambda sampan: is_in("running")(sampan) and has('"RestartCount": 1')(sampan),
        5,
    ),
    "healthy": Scenario((CHECKED.format("--health-cmd true"),), "start web", has('"healthy"'), 5),
    "unhealthy": Scenario((CHECKED.format("--health-cmd false"),), "start web", ended_with(137), 5, ends=(137,)),
    "unhealthy, restarted": Scenario(
        (CHECKED.format("--health-on-failure restart --health-cmd 'test -e /again || ! touch /again'"),),
        "start web",
        lambda sampan: is_in("running")(sampan) and has('"healthy"')(sampan),
        5,
    ),
    "timeout": Scenario((), f"run -d --timeout 1 --name web {BUSY}", ended_with(3, 137), 5, ends=(3, 137)),
    "next server": Scenario((RUN,), "!server", is_in("running")),
    "next keeper": Scenario((RUN,), "!keeper", is_in("running")),
    "next shim": Scenario(("network create more", f"{RUN_ON} --log-driver local {BUSY}"), "!shim", is_in("running")),
    "end, next shim": Scenario((RUN, "!shim"), "kill -s HUP web", ended_with(5), 5, ends=(5,)),
    "end, next keeper": Scenario((RUN, "!keeper"), "kill -s HUP web", ended_with(5), 5, ends=(5,)),
    "create, cut off": Scenario((USES_NETWORK,), f"!server@engine.store.Store.add {CREATE}"),
    "start, cut off": Scenario((CREATE,), "!server@supervise.launcher.Launcher._do:Launch start web"),
    "end, cut off": Scenario((RUN,), "!server@supervise.shim.Shim._tell kill -s HUP web", ended_with(5), 5, ends=(5,)),
    "restart, cut off": Scenario(
        (f"run -d --name web --restart always {BUSY}",),
        "!server@supervise.shim.Shim._tell kill -s HUP web",
        is_in("running"),
        5,
    ),
    "run --rm, cut off": Scenario(
        (), f"!server@supervise.shim.Shim._tell run --rm --name web {QUICK}", is_in("gone"), 5
    ),
    "rm, cut off": Scenario((RUN,), "!server@engine.store.Store.delete rm -f web", is_in("gone")),
    "system stop": Scenario((USES_NETWORK, CREATE), "system stop"),
}


def kill(*pids: int) -> None:
    """Kill them all and wait until they are gone, or zombies."""
    for pid in pids:
        with suppress(ProcessLookupError):  # a spare that has just become another's
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(not (text := status(pid)) or "\nState:\tZ" in text for pid in pids))


def victims(sampan: Stepped, role: str) -> list[int]:
    """Return whom to kill. A shim is the container's own; before it is that, those that wait to become one.

    A launcher is a shim's child which makes the container, or an exec, and is not in it. A keeper's child that has just
    been forked has still its name, and is to be something else.
    """
    found = roles(sampan)
    if role == "keeper":
        keepers = found.get(role, [])
        return [pid for pid in keepers if parent(pid) not in keepers]
    if role not in {"shim", "launcher"}:
        return found.get(role, [])
    shims = found.get("shim", [])
    own = [pid for pid in shims if has_open(pid, "/run/shims/")]
    parents = {pid: its for pid in own if (its := parent(pid))}
    children = [pid for pid, parent in parents.items() if parent in shims]
    launchers = [pid for pid in children if len(status(pid).partition("NSpid:\t")[2].partition("\n")[0].split()) == 1]
    if role == "launcher":
        return launchers
    return [*{pid for pid in parents if pid not in children} | {parents[pid] for pid in children}] or shims


def parent(pid: int) -> int:
    """Return a process's parent, 0 where it has ended."""
    seen = re.search(r"PPid:\t(\d+)", status(pid))
    return int(seen[1]) if seen else 0


def has_open(pid: int, part: str) -> bool:
    try:
        return any(part in os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


class Case(NamedTuple):
    """Kill `role` before or after `step` of what a scenario does."""

    scenario: str
    step: str
    where: Where
    role: str

    def __str__(self) -> str:
        return f"{self.scenario}: {self.where} {self.step}: {self.role}"

    @property
    def draw(self) -> int:
        """A number that has nothing to do with the order."""
        return zlib.crc32(str(self).encode())


def cases() -> Iterator[Case]:
    """Return every one of them, from the table."""
    for (step, where), scenarios in table().items():
        roles = ["server", "keeper", "shim"]
        if step.startswith(("runtime.", "supervise.launcher.")):
            roles.append("launcher")
        if step.startswith(("supervise.archiving.", "supervise.composing.", "supervise.worker.")):
            roles.append("worker")
        for scenario, role in itertools.product(scenarios, roles):
            yield Case(scenario, step, where, role)


def some(cases: Iterable[Case], one_in: int) -> list[Case]:
    """Return one for each step, of the commonest verbs where they come there; of those a part."""
    chosen: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: (case.scenario not in COMMON, case.draw)):
        chosen.setdefault(case.step, case)
    return sorted(chosen.values(), key=lambda case: case.draw)[::one_in]


class Instances:
    """One instance for all cases, until one fails."""

    def __init__(self, busybox_tar: Path) -> None:
        self._tar = busybox_tar
        self._sampan: Stepped | None = None
        self._deaths = 0

    def get(self, deaths: int = 1) -> Stepped:
        """Return it; a keeper whose server dies `deaths` times more, each time at once, must not give up."""
        self._deaths += deaths
        if self._sampan and self._deaths > MOST_DEATHS:
            self._sampan("system", "stop")
            self._deaths = deaths
        if self._sampan is None:
            self._sampan = Stepped(new_root())
            self._sampan("import", self._tar, "busybox")
            self._sampan("run", "--rm", "busybox", "true")
            shutil.unpack_archive(self._tar, tree(self._sampan))
        return self._sampan

    def drop(self) -> None:
        sampan, self._sampan = self._sampan, None
        if sampan:
            sampan.end()


@pytest.fixture(scope="module")
def instances(busybox_tar: Path) -> Iterator[Instances]:
    instances = Instances(busybox_tar)
    yield instances
    instances.drop()
    for parent in groups_named("sampan-faults"):  # which is the user's, and stays
        parent.rmdir()


@pytest.mark.parametrize("case", some(cases(), 3), ids=str)
def test_killed_at_a_step_nothing_is_left_and_nothing_lost(instances: Instances, case: Case) -> None:
    check_case(instances, case)


@pytest.mark.soak
@pytest.mark.parametrize("case", [case for case in cases() if case.draw % EACH == FROM], ids=str)
def test_killed_at_every_step_nothing_is_left_and_nothing_lost(instances: Instances, case: Case) -> None:
    check_case(instances, case)


def check_case(instances: Instances, case: Case) -> None:
    try:
        deaths = (case.role == "server") + ("!server" in SCENARIOS[case.scenario].act)
        assert strike(instances.get(deaths), case), "nobody comes there any more: record with tools/fault_steps.py"
    except BaseException:
        instances.drop()
        raise


def prepare(sampan: Stepped, scenario: Scenario) -> None:
    for command in scenario.prepare:
        if command.startswith("!"):
            wait_until(lambda: len(log(sampan)) == len(LINES))  # what a killed shim has read and not written is lost
            kill(*victims(sampan, command[1:]))
            sampan("info")  # which asks the next keeper, too
            sampan("exec", "web", "true")
        else:
            sampan(*shlex.split(command))
    if state(sampan)["Status"] == "running":
        wait_until(lambda: len(log(sampan)) == len(LINES))


def tree(sampan: Stepped) -> Path:
    """Return the directory of the image's files, for --rootfs."""
    return sampan.root / "home" / "tree"


def act(sampan: Stepped, command: str, arm: Callable[[], None] = lambda: None) -> subprocess.Popen[bytes]:
    """Begin what is to be disturbed, `arm` right before; with `!server@STEP` that is what the next server does."""
    command = command.replace("{tree}", str(tree(sampan)))
    if not command.startswith("!"):
        arm()
        with (sampan.root / "in").open("w+") as stdin:
            stdin.write("in\n")
            stdin.seek(0)
            return sampan.start(*shlex.split(command), stdin=stdin)
    killed, _, command = command.partition(" ")
    role, _, place = killed[1:].partition("@")
    if not place:
        arm()
        kill(*victims(sampan, role))
        return sampan.start("ps")
    sampan.hold_at(named(place), "before", trap=1)
    client = sampan.start(*shlex.split(command))
    wait_until(lambda: sampan.held(1))
    sampan.forget()
    arm()
    kill(*victims(sampan, role))
    sampan.release(1)
    return client


def clean(sampan: Stepped) -> None:
    """Remove all there is; nothing of it may be left, neither here nor in the records."""
    for container in api(sampan, "GET", "/containers/json?all=1"):
        api(sampan, "DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for path in ("networks/more", "volumes/data", "secrets/token", "images/made:1"):
        api(sampan, "DELETE", f"/{path}")
    assert sampan.leftovers() == []
    assert not list(sampan.root.glob("secrets/*"))
    with closing(sqlite3.connect(f"file:{sampan.root}/state.db?mode=ro", uri=True)) as records:
        tables = ("containers", "volumes", "secrets", "networks")
        counts = [records.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
    assert counts == [0, 0, 0, 1], counts
    assert "Traceback" not in sampan.log()


def strike(sampan: Stepped, case: Case) -> bool:
    """Kill and look at everything; False when nobody came to the step."""
    scenario, role = SCENARIOS[case.scenario], case.role
    prepare(sampan, scenario)
    client = act(sampan, scenario.act, lambda: sampan.hold_at(named(case.step), case.where))
    come = wait_at_step(sampan, client, scenario.wait_s)
    if come:
        kill(*victims(sampan, role))
    sampan.release()
    _, error = client.communicate(timeout=60)
    check(sampan, scenario, (client.returncode, error.decode()), role)
    clean(sampan)
    return come


def wait_at_step(sampan: Stepped, client: subprocess.Popen[bytes], patience_s: float) -> bool:
    """Wait until somebody stands there; not for long once the command has answered."""
    end = 0.0
    while not sampan.held():
        time.sleep(0.002)
        if client.poll() is not None:
            end = end or time.monotonic() + LEFT_BEHIND_S + patience_s
            if time.monotonic() > end:
                return False
    return True


def check(sampan: Stepped, scenario: Scenario, answer: tuple[int, str], role: str) -> None:
    """Answered well, it is so. Refused, it is so the next time.

    What is written down, and not executed yet, counts as killed with its launcher. That may be noticed behind the
    answer, and while all the rest is looked at.
    """
    try:
        if not (role == "launcher" and was_killed(sampan, answer)):
            check_answer(sampan, scenario, answer, role)
    except (AssertionError, pytest.fail.Exception):
        if not (role == "launcher" and wait_until(lambda: was_killed(sampan, answer), fail=False)):
            raise


def was_killed(sampan: Stepped, answer: tuple[int, str]) -> bool:
    return ended_with(137)(sampan) or (answer[0] == 137 and is_in("gone")(sampan))


def check_answer(sampan: Stepped, scenario: Scenario, answer: tuple[int, str], role: str) -> None:
    code, error = answer
    assert "Traceback" not in error
    cut_off = scenario.act.startswith("!")
    if code != scenario.code and not cut_off:
        assert error, code
        assert role in refusing(scenario), (code, error)
        # What was asked for may be on its way, though its answer was lost: a signal sent twice is another thing.
        if not wait_until(lambda: scenario.done(sampan), timeout=scenario.wait_s, fail=False):
            if scenario.act.startswith("run "):
                sampan("rm", "-f", "web", check=False)
            again = act(sampan, scenario.act)
            _, said = again.communicate(timeout=60)
            assert again.returncode == scenario.code, (error, said)
    wait_until(lambda: scenario.done(sampan), timeout=scenario.wait_s, what=f"{answer}, {state(sampan)}")
    name = "web2" if "web2" in scenario.act else "web"
    if state(sampan, name)["Status"] != "gone" and scenario.code != 127:
        # A client's connection, and with it what the program was to read, goes with the launcher that holds it.
        lost = role == "shim" or (" -i " in scenario.act and (role == "launcher" or code != scenario.code))
        check_container(sampan, scenario, name, whole=not lost)


def refusing(scenario: Scenario) -> set[str]:
    """Return whose deaths a command may answer with an error."""
    if "--explain" in scenario.act:
        return {"server", "shim", "launcher"}
    return {"server", "launcher"} if scenario.act.startswith("exec ") else {"server", "worker"}


def check_container(sampan: Stepped, scenario: Scenario, name: str, *, whole: bool) -> None:
    """It can be used on, its end is the one that it had, and its log is `whole` but for what a killed shim had read."""
    before = state(sampan, name)["Status"]
    if before == "created":
        sampan("start", name)
    if before == "paused":
        sampan("unpause", name)
    if before == "running":
        assert sampan("exec", name, "echo", "in").line == "in"
    if before != "exited":
        wait_until(lambda: log(sampan, name)[-1:] == LINES[-1:], fail=whole, timeout=10 if whole else 2)
        sampan("stop", name)
    after = state(sampan, name)
    assert after["Status"] == "exited", after
    assert after["ExitCode"] in ((3,) if before != "exited" else scenario.ends), after
    check_log(log(sampan, name), after["ExitCode"], whole=whole)


def check_log(logged: list[str], code: int, *, whole: bool) -> None:
    once = [*LINES, *(["bye"] if code == 3 else [])]
    if whole:
        assert logged[-len(once) :] == once, logged
    else:  # in order, none twice, in each of two runs
        left = iter([*LINES, "bye", *LINES, "bye"])
        assert all(line in left for line in logged), logged
