"""Processes that stand still instead of dying: whatever waits for one, `rm -f` wins, and says what it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.faults import Step, Strace, roles, stopped
from support.sampan import Sampan, wait_until

WAITING = "trap 'exit 3' TERM; while :; do usleep 10000; done"
ONCE = ("exec", "web", "sh", "-c", "echo ran >>/ran; exit 5")


@pytest.fixture
def ready(instance: Sampan, busybox_tar: Path) -> Sampan:
    instance("import", busybox_tar, "busybox")
    instance("run", "--rm", "busybox", "true")
    return instance


def spare_shims(sampan: Sampan) -> list[int]:
    return wait_until(lambda: len(found := roles(sampan).get("shim", [])) == 3 and found)


def keeper(sampan: Sampan) -> list[int]:
    return roles(sampan)["keeper"]


def is_starting(sampan: Sampan) -> bool:
    """Whether a start has given a container its place on the network, and the container's own files tell so."""
    files = (sampan.root / "containers").glob("*/hosts")
    texts = {path.parent.name[:12]: path.read_text() for path in files}
    return any(name in text and f"127.0.1.1\t{name}" not in text for name, text in texts.items())


@pytest.mark.parametrize("still", [spare_shims, keeper])
def test_rm_f_wins_over_a_start_that_waits_for_what_stands_still(
    ready: Sampan, still: Callable[[Sampan], list[int]]
) -> None:
    with stopped(*still(ready)):
        client = ready.start("run", "--name", "web", "busybox", "true")
        wait_until(lambda: is_starting(ready))

        ready("rm", "-f", "web")

        _, error = client.communicate(timeout=30)
        assert client.returncode == 125
        assert b"it is being removed" in error
        assert ready("ps", "-aq").lines == []
    assert ready.leftovers() == []
    assert ready("run", "--rm", "busybox", "echo", "on").line == "on"


@pytest.mark.parametrize("keepers", [0, 1])
def test_rm_f_wins_over_a_shim_that_stands_still(ready: Sampan, keepers: int) -> None:
    ready("run", "-d", "--name", "web", "busybox", "sh", "-c", WAITING)
    shim = ready.shim_pid("web")

    with stopped(shim, *keeper(ready)[:keepers]):
        ready("rm", "-f", "web")

        assert ready("ps", "-aq").lines == []
        assert list(ready.contained()) == []
    assert ready.leftovers() == []


@pytest.mark.parametrize(
    "step",
    [
        Step("clone3", 1),
        Step("sendmsg", 1),
        Step("renameat", 1),
        Step("sendto", 1),
        Step("recvfrom", 1),
        Step("recvfrom", 2),
    ],
)
def test_an_exec_whose_shim_is_killed_while_it_starts_runs_once_at_most_and_its_exit_code_is_true(
    ready: Sampan, step: Step
) -> None:
    ready("run", "-d", "--name", "web", "busybox", "sh", "-c", WAITING)
    tracer = Strace([ready.shim_pid("web")], step)

    result = ready(*ONCE, check=False)

    tracer.end()
    ran = ready("exec", "web", "sh", "-c", "cat /ran || true").lines
    # Killed between noting it and letting it go: then it was, too.
    assert (result.code, ran) in [(5, ["ran"]), (137, [])], result
    inside = [command for _, command in ready.contained()]
    assert all(WAITING in command or command.startswith("usleep") for command in inside), inside
