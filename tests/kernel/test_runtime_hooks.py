"""Hooks of all kinds, run for real: when, where, with which state, and what their failing does."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sampan.errors import Failed
from sampan.runtime import container, hooks
from sampan.runtime.plan import Plan, decode, encode, plan
from sampan.spec.runtime import ContainerState, Hook, Hooks
from support.containers import HOST, PARENT, Box, facts, left_behind, remove_parents

SHELL = shutil.which("sh") or "/bin/sh"
STATE = ContainerState(oci_version="1.2.0", id="c", pid=os.getpid(), bundle="/")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "box")
    before = facts(tmp_path)
    yield made
    assert not left_behind(before, tmp_path)
    remove_parents()


def shell(script: str, **fields: object) -> Hook:
    return Hook(path=SHELL, args=("sh", "-c", script), env=(f"PATH={os.environ['PATH']}",), **fields)


def planned(box: Box, *args: str, bundle: str = "", terminal: bool = False, **stages: tuple[Hook, ...]) -> Plan:
    spec = msgspec.structs.replace(box.spec(*args, terminal=terminal), hooks=Hooks(**stages))
    return decode(encode(plan(spec, HOST, id="hooked", cgroup_parent=PARENT, bundle=bundle)))


def test_each_kind_runs_at_its_time_and_in_its_place_with_the_state(box: Box, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (box.lower / "log").touch()
    outside = shell(f"echo outside $PWD $(busybox readlink /proc/self/ns/mnt) $(cat) >> {log}")
    inside = shell(f"echo inside $(cat proc/1/comm) $(busybox readlink /proc/self/ns/mnt) $(cat) >> {log}")
    start = Hook(path="/bin/sh", args=("sh", "-c", "{ id -u; cat; echo; } > /tmp/log"), env=("PATH=/bin",))
    made = planned(
        box, "cat", "/tmp/log",
        bundle=str(tmp_path), prestart=(outside,), create_runtime=(outside,), create_container=(inside,),
        start_container=(start,),
    )  # fmt: skip

    reader, writer = os.pipe()
    running = container.create(made, (0, writer, writer), gated=True)
    os.close(writer)
    first = log.read_text()
    container.start(running)
    os.waitid(os.P_PIDFD, running.pidfd, os.WEXITED)
    said = os.read(reader, 10000).decode()
    for fd in (reader, running.pidfd):
        os.close(fd)
    container.delete(running.cgroups)

    ours = os.readlink("/proc/self/ns/mnt")
    lines = first.splitlines()
    heads = [part.partition("{")[0].split() for part in lines]
    states = [json.loads("{" + part.partition("{")[2]) for part in lines]
    assert heads[0] == heads[1] == ["outside", str(tmp_path), ours]
    assert heads[2][0] == "inside"
    assert heads[2][-1] != ours
    assert [s["status"] for s in states] == ["creating"] * 3
    assert [s["pid"] for s in states] == [running.pid, running.pid, 1]
    assert states[0]["id"] == "hooked"
    assert states[0]["bundle"] == str(tmp_path)
    assert said.split("\n")[0] == "0"
    assert json.loads(said.split("\n")[1])["status"] == "created"


@pytest.mark.parametrize("stage", ["prestart", "create_runtime", "create_container"])
def test_a_hook_that_fails_ends_the_creation_and_leaves_nothing(box: Box, stage: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    failing = (shell("echo no good >&2; exit 3"), shell(f": > {log}"))

    with pytest.raises(Failed, match=r"hook 0, \S+: exit status 3: no good"):
        container.create(planned(box, "true", **{stage: failing}), (0, 1, 2))
    assert not log.exists()


def test_a_start_hook_that_fails_ends_the_start(box: Box) -> None:
    running = container.create(planned(box, "true", start_container=(Hook(path="/nothing"),)), (0, 1, 2), gated=True)

    with pytest.raises(Failed, match="/nothing: exit status 127: no such file or directory"):
        container.start(running)


def test_a_terminal_that_was_made_before_a_hook_failed_is_closed(box: Box) -> None:
    with pytest.raises(Failed):
        container.create(planned(box, "true", terminal=True, create_runtime=(shell("exit 1"),)), None)


def test_a_hook_that_takes_too_long_is_killed_with_what_it_started() -> None:
    hook = shell("busybox sleep 1000 & wait", timeout=1)

    with pytest.raises(Failed, match="took longer than its timeout of 1 s"):
        hooks.run((hook,), "poststart", STATE)


def test_what_a_hook_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    hooks.run((shell(f"busybox sleep 1000 & echo $! > {pid}"),), "poststart", STATE)

    os.kill(int(pid.read_text()), 9)


def test_a_hook_has_the_environment_that_it_was_given_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    os.environ["SECRET"] = "x"
    script = f"import os; print(dict(os.environ), os.listdir('/proc/self/fd'), file=open('{out}', 'w'))"
    hook = Hook(path=os.path.realpath(sys.executable), args=("python3", "-I", "-S", "-c", script), env=("A=b",))
    reader = os.open("/", os.O_RDONLY)
    os.set_inheritable(reader, True)
    hooks.run((hook,), "poststart", STATE)
    os.close(reader)

    assert "'A': 'b'" in out.read_text()
    assert "SECRET" not in out.read_text()
    assert len(out.read_text().partition("[")[2].split(",")) <= 5  # three, the file, and the directory


def test_a_state_that_is_larger_than_a_pipe_arrives_and_one_that_is_not_read_is_no_failure(tmp_path: Path) -> None:
    out = tmp_path / "out"
    state = msgspec.structs.replace(STATE, annotations={"large": "x" * 300_000})

    hooks.run((shell("exit 0"), shell(f"cat > {out}")), "poststop", state)

    found = json.loads(out.read_text())
    assert (found["status"], len(found["annotations"]["large"])) == ("stopped", 300_000)


def test_all_of_poststop_run_whichever_fail(tmp_path: Path) -> None:
    out = tmp_path / "out"

    failed = hooks.run_all((shell("exit 1"), shell(f": > {out}"), shell("kill -9 $$")), "poststop", STATE)

    assert out.exists()
    assert [e.message.rpartition(": ")[2] for e in failed] == ["exit status 1", "signal 9"]
