"""Containers that are started again by themselves: after their end, a server's and the machine's."""

from __future__ import annotations

import os
import signal
import time

from support.sampan import Sampan, wait_until

FAILS = ("sh", "-c", "echo run; exit 3")


def run(engine: Sampan, policy: str, *command: str) -> None:
    engine("run", "-d", "--name", "web", "--network", "none", "--restart", policy, "busybox", *command)


def state(engine: Sampan) -> str:
    return engine("inspect", "-f", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}", "web").line


def kill_inside(engine: Sampan) -> int:
    """Kill the container's first process from outside of the engine; return its pid."""
    pid = int(engine("inspect", "-f", "{{.State.Pid}}", "web").line)
    os.kill(pid, signal.SIGKILL)
    return pid


def runs_again(engine: Sampan, before: int) -> None:
    form = "{{.State.Status}} {{.State.Restarting}} {{.State.Pid}}"
    wait_until(lambda: _is_another(engine("inspect", "-f", form, "web").line.split(), before))


def _is_another(found: list[str], before: int) -> bool:
    return found[:2] == ["running", "false"] and found[2] not in ("0", str(before))


def test_on_failure_tries_as_often_as_it_is_told(sampan: Sampan) -> None:
    run(sampan, "on-failure:2", *FAILS)

    wait_until(lambda: state(sampan) == "exited 2 3")
    assert sampan("logs", "web").lines == ["run"] * 3
    assert sampan("wait", "web").line == "3"


def test_on_failure_is_content_with_an_end_without_one(sampan: Sampan) -> None:
    run(sampan, "on-failure", "true")

    wait_until(lambda: state(sampan) == "exited 0 0")
    time.sleep(0.3)
    assert state(sampan) == "exited 0 0"


def test_what_waits_to_be_started_is_shown_so_and_can_be_stopped_or_removed(sampan: Sampan) -> None:
    run(sampan, "always", *FAILS)
    wait_until(lambda: state(sampan).startswith("restarting"), timeout=20)

    assert sampan("ps", "--format", "{{.Status}}").line.startswith(("Restarting (3) ", "Up "))
    sampan("stop", "web")
    assert state(sampan).startswith("exited")
    logged = len(sampan("logs", "web").lines)
    time.sleep(1)
    assert len(sampan("logs", "web").lines) == logged
    sampan("start", "web")
    refusal = "container is restarting: stop the container before removing"
    wait_until(lambda: refusal in sampan.fails(1, "rm", "web").err, what="it waits, and is not removed")
    assert sampan("rm", "-f", "web").line == "web"
    assert sampan("ps", "-aq").out == ""


def test_a_container_that_was_killed_from_outside_comes_back_and_one_that_we_killed_does_not(sampan: Sampan) -> None:
    run(sampan, "unless-stopped", "sleep", "100")
    runs_again(sampan, kill_inside(sampan))

    sampan("kill", "web")

    wait_until(lambda: state(sampan).startswith("exited"))
    time.sleep(0.3)
    assert state(sampan) == "exited 1 137"


def test_a_signal_that_is_not_to_end_it_does_not_keep_it_from_coming_back(sampan: Sampan) -> None:
    run(sampan, "always", "sh", "-c", "trap 'exit 4' HUP; touch /ready; while :; do usleep 10000; done")
    wait_until(lambda: sampan("exec", "web", "test", "-e", "/ready", check=False).code == 0)
    sampan("kill", "-s", "HUP", "web")

    wait_until(lambda: state(sampan) == "running 1 0")


def test_the_end_that_no_server_saw_is_followed_by_a_start(instance: Sampan, busybox_image: str) -> None:
    run(instance, "always", "sleep", "100")
    server, keeper = instance.info("ServerPid"), instance.info("KeeperPid")
    pid = int(instance("inspect", "-f", "{{.State.Pid}}", "web").line)
    os.kill(keeper, signal.SIGSTOP)  # it starts no other server meanwhile
    try:
        for victim in (server, pid):
            os.kill(victim, signal.SIGKILL)
        time.sleep(0.2)
    finally:
        os.kill(keeper, signal.SIGCONT)

    runs_again(instance, pid)


def test_what_a_machine_that_boots_had_is_started_again(instance: Sampan, busybox_image: str) -> None:
    """A boot is told by the kernel's boot id: another one is written where the last server has left it."""
    run(instance, "always", "sleep", "100")
    instance("stop", "-t", "0", "web")
    instance("create", "--name", "other", "--network", "none", "--restart", "unless-stopped", "busybox", "sleep", "100")
    instance("system", "stop")
    (instance.root / "boot").write_text("another\n")

    wait_until(lambda: instance("ps", "--format", "{{.Names}}").lines == ["web"])
    wait_until(lambda: state(instance).startswith("running 0"))


def test_a_policy_that_is_none_is_refused(sampan: Sampan) -> None:
    said = sampan.fails(125, "run", "--restart", "sometimes", "busybox")
    assert "invalid restart policy: unknown policy 'sometimes'" in said.err
    assert (
        "cannot specify both --restart and --rm"
        in sampan.fails(125, "run", "--rm", "--restart", "always", "busybox").err
    )


def test_a_restart_keeps_a_container_that_removes_itself_at_its_end(sampan: Sampan) -> None:
    sampan("run", "-d", "--rm", "--name", "web", "busybox", "sleep", "1000")

    sampan("restart", "-t", "0", "web")

    assert sampan("ps", "--format", "{{.Names}}").line == "web"
    sampan("kill", "web")
    wait_until(lambda: not sampan("ps", "-aq").out)
