"""Freezing, and killing all that is in a container, on cgroup v1 and v2."""

from __future__ import annotations

import time

from support.sampan import Sampan, wait_until

COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /dev/shm/i; sleep 0.02; done"


def test_a_paused_container_stands_still_and_goes_on_later(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "busybox", "sh", "-c", COUNTER)
    pid = sampan.inspect("web")["State"]["Pid"]

    def count() -> int:
        try:
            with open(f"/proc/{pid}/root/dev/shm/i") as file:
                return int(file.read() or 0)
        except FileNotFoundError:
            return 0

    wait_until(lambda: count() > 2)
    sampan("pause", "web")
    before = count()
    time.sleep(0.3)
    assert count() == before
    assert "(Paused)" in sampan("ps").out

    sampan("unpause", "web")
    wait_until(lambda: count() > before)


def test_killing_a_paused_container_ends_it(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "busybox", "sleep", "100")
    sampan("pause", "web")

    sampan("kill", "web")

    assert sampan("wait", "web", timeout=20).line == "137"


def test_a_paused_container_can_be_stopped_and_removed(sampan: Sampan) -> None:
    for verb in (["stop", "-t", "1", "web"], ["rm", "-f", "web"]):
        sampan("run", "-d", "--rm", "--name", "web", "busybox", "sleep", "100")
        sampan("pause", "web")
        sampan(*verb)
        wait_until(lambda: not sampan("ps", "-aq").out)


def test_nothing_survives_the_first_process(sampan: Sampan) -> None:
    others = "for i in 1 2 3; do (setsid sleep 300 &) ; done"
    sampan(
        "run", "-d", "--name", "web", "busybox", "sh", "-c",
        f"trap exit USR1; {others}; echo ready; while :; do sleep 0.1; done",
    )  # fmt: skip
    wait_until(lambda: sampan("logs", "web").out)
    sampan("exec", "-d", "web", "sleep", "300")
    sampan("kill", "-s", "USR1", "web")
    sampan("wait", "web")

    wait_until(lambda: not list(sampan.contained()))
    assert not sampan.cgroups() or wait_until(lambda: not sampan.cgroups())


def test_with_the_hosts_pids_the_others_are_killed_too(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "--pid", "host", "busybox", "sh", "-c", "(setsid sleep 300 &) ; sleep 0.5")
    sampan("wait", "web")

    wait_until(lambda: not list(sampan.contained()), what="processes of the control group are gone")
