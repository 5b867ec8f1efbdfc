"""Killed in mid-air: server, keeper, shim. Containers run on, nothing is lost, nothing is left."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.kernel import process
from support.faults import roles
from support.sampan import Sampan, command_lines, new_root, wait_until
from support.steps import Stepped, named

COUNT = (
    "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; usleep 5000; done; "
    "while [ ! -e /end ]; do usleep 9000; done; exit 6"
)


@pytest.fixture
def counting(instance: Sampan, busybox_image: str) -> Sampan:
    """Start a container that counts to 400 in some seconds and ends with 6 when it finds /end."""
    instance("run", "-d", "--name", "web", busybox_image, "sh", "-c", COUNT)
    wait_until(lambda: len(instance("logs", "web").lines) > 5)
    return instance


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not command_lines([pid])[0])


def pids(sampan: Sampan) -> dict[str, int]:
    return {
        "server": sampan.info("ServerPid"),
        "keeper": sampan.info("KeeperPid"),
        "shim": sampan.shim_pid("web"),
        "init": sampan.inspect("web")["State"]["Pid"],
    }


VICTIMS = [["server"], ["keeper"], ["server", "keeper"], ["keeper", "server"]]


@pytest.mark.parametrize("victims", VICTIMS, ids=" and ".join)
def test_containers_run_on_and_logs_and_exit_codes_are_right(counting: Sampan, victims: list[str]) -> None:
    before = pids(counting)
    for victim in victims:
        kill(before[victim])

    assert counting("ps", "--format", "{{.Names}}").lines == ["web"]
    after = pids(counting)
    assert after["init"] == before["init"]
    assert all(after[victim] != before[victim] for victim in victims)
    counting("exec", "web", "touch", "/end")
    assert counting("wait", "web").line == "6"
    assert counting("logs", "web").lines == [str(n) for n in range(1, 401)]
    assert counting.inspect("web")["State"]["ExitCode"] == 6


def test_a_killed_shim_is_replaced_and_loses_only_what_it_had_read(counting: Sampan) -> None:
    before = pids(counting)
    kill(before["shim"])

    assert counting("ps", "--format", "{{.Names}}").lines == ["web"]
    assert counting("exec", "web", "echo", "in").line == "in"
    counting("exec", "web", "touch", "/end")
    assert counting("wait", "web").line == "6"
    logged = [int(line) for line in counting("logs", "web").lines]
    assert logged == sorted(set(logged))
    assert logged[-1] == 400
    assert len(logged) >= 395


def test_killing_the_server_does_not_cut_an_attached_client(counting: Sampan) -> None:
    client = counting.start("attach", "--no-stdin", "web")
    executed = counting.start("exec", "-i", "web", "sh", "-c", "echo begun; cat; exit 8", stdin=subprocess.PIPE)
    assert executed.stdout
    assert executed.stdout.readline() == b"begun\n"
    wait_until(lambda: says(counting, "x") and select.select([client.stdout], [], [], 0)[0], what="it is attached")

    kill(counting.info("ServerPid"))

    assert executed.communicate(b"still there\n", timeout=20)[0] == b"still there\n"
    says(counting, "last")
    counting("exec", "web", "touch", "/end")
    out, _ = client.communicate(timeout=20)
    assert b"last" in out.split()
    assert executed.returncode == 8
    assert client.returncode == 6


def says(sampan: Sampan, word: str) -> bool:
    """Have the container write a word to its output."""
    return not sampan("exec", "web", "sh", "-c", f"echo {word} > /proc/1/fd/1").code


def test_when_keeper_and_shim_are_both_killed_the_state_says_so(counting: Sampan) -> None:
    before = pids(counting)
    os.kill(before["keeper"], signal.SIGSTOP)
    kill(before["shim"])
    kill(before["keeper"])

    state = wait_until(lambda: counting.inspect("web")["State"])

    if state["Running"]:
        assert Path(f"/proc/{state['Pid']}").exists()
    else:
        assert state["ExitCode"] != 0
        assert not list(counting.contained())
    counting("rm", "-f", "web")
    assert counting.leftovers() == []


def test_a_container_that_ended_while_nobody_watched_has_its_exit_code(instance: Sampan, busybox_image: str) -> None:
    instance("run", "-d", "--name", "web", busybox_image, "sh", "-c", "sleep 1; exit 9")
    pid = instance.inspect("web")["State"]["Pid"]
    keeper, server = instance.info("KeeperPid"), instance.info("ServerPid")
    os.kill(keeper, signal.SIGKILL)
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())

    state = instance.inspect("web")["State"]

    assert (state["Status"], state["ExitCode"]) == ("exited", 9)


@pytest.fixture
def stepped(busybox_tar: Path) -> Iterator[Stepped]:
    sampan = Stepped(new_root())
    try:
        sampan("import", busybox_tar, "busybox")
        yield sampan
    finally:
        sampan.end()


def test_the_server_knows_an_end_that_came_while_keeper_and_shim_were_dead(stepped: Stepped) -> None:
    words = ("--name", "web", "--network", "none", "busybox", "sh", "-c")
    stepped("run", "-d", *words, "trap 'exit 9' TERM; echo ready; sleep 1000 & wait $!")
    wait_until(lambda: stepped("logs", "web").line == "ready")
    init, shim, (keeper,) = stepped.inspect("web")["State"]["Pid"], stepped.shim_pid("web"), roles(stepped)["keeper"]
    pidfd = process.pidfd_open(init)
    stepped.hold_at(named("supervise.keeper.Keeper._fork_successor"), "before")
    os.kill(keeper, signal.SIGSTOP)
    kill(shim)
    kill(keeper)
    wait_until(stepped.held, what="the next keeper")
    os.kill(init, signal.SIGTERM)
    wait_until(
        lambda: not Path(f"/proc/{init}").exists(), what="its parent, the machine's first process, collecting it"
    )
    known = process.pidfd_exit_status(pidfd) is not None
    os.close(pidfd)
    stepped.release()

    stepped("wait", "web")
    state = stepped.inspect("web")["State"]

    assert (state["Status"], state["ExitCode"]) == ("exited", 9 if known else 255)  # Linux 6.15
    assert state["Ending"].get("Unknown", False) is not known
    stepped("rm", "web")
    assert stepped.leftovers() == []


@pytest.mark.parametrize("delay_ms", [0, 5, 10, 20, 40, 80])
def test_the_server_killed_during_a_start_leaves_nothing_that_the_next_does_not_clean(
    instance: Sampan, busybox_image: str, delay_ms: int
) -> None:
    instance("run", "--rm", busybox_image, "true")
    server = instance.info("ServerPid")
    client = instance.start("run", "--name", "web", busybox_image, "sleep", "0.2")
    time.sleep(0.03 + delay_ms / 1000)
    os.kill(server, signal.SIGKILL)
    client.communicate(timeout=30)

    instance("ps", "-a")
    instance("rm", "-f", "web", check=False)

    assert instance.leftovers() == []


def test_the_server_stops_when_idle_and_the_next_command_starts_it_again(instance: Sampan, busybox_image: str) -> None:
    first = instance.info("KeeperPid")
    instance("system", "stop")
    wait_until(lambda: not instance.ours(), what="keeper and server have ended")

    assert instance("run", "--rm", busybox_image, "echo", "again").line == "again"
    assert instance.info("KeeperPid") != first
