"""SIGKILL at every system call of a start, an exec, a removal (`pytest -m soak`), or at random; and two of one alone.

Named steps, which test_faults_steps has, are coarser and always the same ones.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.faults import Strace, roles, status
from support.sampan import Sampan, wait_until

Victims = Callable[[Sampan], list[int]]

COUNT = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; usleep 4000; done; exit 6"
WAITING = "trap 'exit 3' TERM; while :; do usleep 10000; done"
UNTIL_TOLD = "while [ ! -e /end ]; do usleep 10000; done"
RUN = ("run", "--name", "web", "busybox", "sh", "-c", "echo hi; usleep 20000; exit 7")


@pytest.fixture
def ready(instance: Sampan, busybox_tar: Path) -> Sampan:
    instance("import", busybox_tar, "busybox")
    instance("run", "--rm", "busybox", "true")
    return instance


def spare_shims(sampan: Sampan) -> list[int]:
    """What forks shims ahead of need, those that it has forked, and their launchers: some of them are used next."""

    def spare() -> list[int]:
        found = roles(sampan).get("shim", [])
        time.sleep(0.03)  # one that is about to leave, or to come, is not there twice
        return found if found == roles(sampan).get("shim", []) else []

    return wait_until(spare)


def its_shim(sampan: Sampan) -> list[int]:
    return [sampan.shim_pid("web")]


def all_of(role: str) -> Victims:
    return lambda sampan: wait_until(lambda: roles(sampan).get(role))


def check_consistent(sampan: Sampan) -> None:
    """What the state says is so, everything can be removed, and then nothing is there."""
    for line in sampan("ps", "-a", "--no-trunc", "--format", "{{.ID}}").lines:
        state = sampan.inspect(line)["State"]
        inside = [pid for pid, _ in sampan.contained() if line in Path(f"/proc/{pid}/cgroup").read_text()]
        if not state["Running"]:
            assert not inside, (state, inside)
        else:
            wait_until(lambda line=line: sampan.inspect(line)["State"]["Status"] != "paused")
        sampan("rm", "-f", line)
    assert sampan.leftovers() == []
    assert "Traceback" not in sampan.log()


def strike(sampan: Sampan, case: tuple[Victims, tuple[str, ...], bool]) -> None:
    """Let the command happen once under strace, then once for each call, at which who makes it is killed."""
    victims, command, prepare = case
    steps = None
    while steps is None or steps:
        if prepare:
            sampan("run", "-d", "--name", "web", "busybox", "sh", "-c", WAITING)
        step = steps.pop() if steps else None
        tracer = Strace(victims(sampan), step)
        client = sampan.start(*command)
        _, error = client.communicate(timeout=60)
        assert b"Traceback" not in error
        if steps is None:
            steps = tracer.steps()
        else:
            tracer.end()
        check_consistent(sampan)


CASES = {
    "shim, run": (spare_shims, RUN, False),
    "shim, rm": (its_shim, ("rm", "-f", "web"), True),
    "shim, exec": (its_shim, ("exec", "web", "echo", "in"), True),
    "keeper, run": (all_of("keeper"), RUN, False),
    "server, run": (all_of("server"), RUN, False),
    "server, rm": (all_of("server"), ("rm", "-f", "web"), True),
    "server, commit": (all_of("server"), ("commit", "web", "mine:1"), True),
}


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES)
def test_killed_at_every_call_nothing_is_left(ready: Sampan, case: str) -> None:
    strike(ready, CASES[case])


def test_a_shim_killed_while_an_exec_runs_does_not_lose_its_exit_code(ready: Sampan) -> None:
    ready("run", "-d", "--name", "web", "busybox", "sh", "-c", WAITING)
    executed = ready.start("exec", "web", "sh", "-c", f"echo begun; {UNTIL_TOLD}; exit 5")
    assert executed.stdout.readline() == b"begun\n"

    os.kill(ready.shim_pid("web"), signal.SIGKILL)

    assert b"lost the command's output" in executed.stderr.readline()
    ready("exec", "web", "touch", "/end")
    executed.communicate(timeout=30)
    assert executed.returncode == 5


def test_a_shim_killed_under_a_foreground_run_is_told_and_the_exit_code_is_right(ready: Sampan) -> None:
    client = ready.start("run", "--name", "web", "busybox", "sh", "-c", f"echo begun; {UNTIL_TOLD}; exit 6")
    assert client.stdout.readline() == b"begun\n"

    os.kill(ready.shim_pid("web"), signal.SIGKILL)

    assert b"lost the output" in client.stderr.readline()  # said where no end has followed in two seconds
    ready("exec", "web", "touch", "/end")
    client.communicate(timeout=30)
    assert client.returncode == 6


def test_a_keeper_killed_before_its_new_server_listens_to_it_is_replaced(ready: Sampan) -> None:
    for delay_s in (0, 0.02, 0.05, 0.1, 0.15):
        keeper, server = ready.info("KeeperPid"), ready.info("ServerPid")
        os.kill(server, signal.SIGKILL)
        time.sleep(delay_s)
        os.kill(keeper, signal.SIGKILL)

        assert ready("run", "--rm", "busybox", "echo", "on").line == "on"


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_random_kills_while_a_container_logs_for_five_minutes(ready: Sampan) -> None:
    dice = random.Random(os.environ.get("SEED"))
    end = time.monotonic() + 300
    while time.monotonic() < end:
        tty = ["-t"] if dice.random() < 0.4 else []
        ready("run", "-d", *tty, "--name", "web", "busybox", "sh", "-c", COUNT)
        client = ready.start("attach", "--no-stdin", "web")
        wait_until(lambda: len(ready("logs", "web").lines) > 3)
        victims = dice.sample(["server", "keeper", "shim"], dice.randint(1, 3))
        for victim in victims:
            pid = ready.shim_pid("web") if victim == "shim" else roles(ready).get(victim, [0])[0]
            if pid and status(pid):
                os.kill(pid, signal.SIGKILL)
            time.sleep(dice.choice([0, 0, 0.002, 0.02, 0.2]))

        assert ready("ps", "-a", "--format", "{{.Names}}").lines == ["web"], victims
        code = ready("wait", "web").line
        state = ready.inspect("web")["State"]
        logged = [int(line) for line in ready("logs", "web").out.split()]
        client.communicate(timeout=30)
        assert logged == sorted(set(logged)), victims
        if {"shim", "keeper"} <= set(victims):
            assert code == "6" or (code == "255" and state["Error"]), (victims, state)
        else:
            assert code == "6", (victims, state)
            assert "shim" in victims or len(logged) == 300, victims
        check_consistent(ready)
