"""Health checks: run, shown, listed, told as events, and acted on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from support.sampan import Sampan, wait_until

QUICK = ("--health-interval", "100ms", "--health-retries", "2")
CHECK = ("--health-cmd", "test ! -e /sick || { echo it is sick; exit 5; }")


def run(sampan: Sampan, *flags: str) -> None:
    sampan("run", "-d", "--name", "web", "--network", "none", *flags, "busybox", "sleep", "100")


def health(sampan: Sampan) -> str:
    return sampan("inspect", "-f", "{{.State.Health.Status}}", "web").line


def test_a_container_becomes_healthy_then_sick_then_well_again(sampan: Sampan) -> None:
    run(sampan, *QUICK, *CHECK)
    assert sampan("ps", "--format", "{{.Status}}").line.endswith(("(health: starting)", "(healthy)"))
    wait_until(lambda: health(sampan) == "healthy")

    sampan("exec", "web", "touch", "/sick")
    wait_until(lambda: health(sampan) == "unhealthy")

    assert sampan("ps", "--format", "{{.Status}}").line.endswith("(unhealthy)")
    assert sampan("ps", "-q", "--filter", "health=unhealthy").lines
    assert not sampan("ps", "-q", "--filter", "health=healthy").lines
    last = sampan.inspect("web")["State"]["Health"]["Log"][-1]
    assert (last["ExitCode"], last["Output"]) == (5, "it is sick\n")
    assert len(sampan.inspect("web")["State"]["Health"]["Log"]) <= 5
    sampan("exec", "web", "rm", "/sick")
    wait_until(lambda: health(sampan) == "healthy")
    assert sampan.inspect("web")["State"]["Health"]["FailingStreak"] == 0
    events = sampan("events", "--since", "1m", "--until", "0s", "--filter", "container=web").out
    assert [e for e in ("healthy", "unhealthy") if f"health_status: {e} " in events] == ["healthy", "unhealthy"]


def test_a_check_that_takes_too_long_is_killed_and_counts(sampan: Sampan) -> None:
    run(sampan, *QUICK, "--health-timeout", "200ms", "--health-cmd", "exec sleep 1000")
    wait_until(lambda: health(sampan) == "unhealthy")

    last = sampan.inspect("web")["State"]["Health"]["Log"][-1]
    assert last["ExitCode"] == -1
    assert last["Output"] == "Health check exceeded timeout (200ms)"
    wait_until(lambda: sampan("top", "web").out.count("sleep 1000") <= 1)


def test_a_command_that_is_not_there_is_unhealthy_with_the_reason(sampan: Sampan) -> None:
    sampan("commit", "--change", 'HEALTHCHECK CMD ["/not/there"]', sampan("create", "busybox", "true").line, "sick")
    sampan("run", "-d", "--name", "web", "--network", "none", *QUICK, "sick", "sleep", "100")
    wait_until(lambda: health(sampan) == "unhealthy")

    assert "/not/there" in sampan.inspect("web")["State"]["Health"]["Log"][-1]["Output"]
    sampan("rm", "-f", "web")
    sampan("run", "-d", "--name", "web", "--network", "none", "--no-healthcheck", "sick", "sleep", "100")
    assert "Health" not in sampan.inspect("web")["State"]


def test_the_health_is_known_over_a_servers_end(sampan: Sampan) -> None:
    run(sampan, *QUICK, *CHECK)
    sampan("exec", "web", "touch", "/sick")
    wait_until(lambda: health(sampan) == "unhealthy")
    os.kill(sampan.info("ServerPid"), signal.SIGKILL)

    assert health(sampan) == "unhealthy"
    sampan("exec", "web", "rm", "/sick")
    wait_until(lambda: health(sampan) == "healthy")


@pytest.mark.parametrize(
    ("action", "state"), [("kill", "exited 137"), ("stop", "exited 137"), ("restart", "running 0")]
)
def test_an_unhealthy_container_is_dealt_with_as_asked(sampan: Sampan, action: str, state: str) -> None:
    run(sampan, *QUICK, "--health-on-failure", action, "--stop-timeout", "0", *CHECK)
    pid = sampan.inspect("web")["State"]["Pid"]
    sampan("exec", "web", "touch", "/sick")

    wait_until(lambda: sampan.inspect("web")["State"]["Pid"] != pid)
    wait_until(lambda: sampan("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web").line == state)


def test_a_check_that_is_killed_with_its_container_is_no_reason_to_start_it_again(sampan: Sampan) -> None:
    often = ("--health-interval", "5ms", "--health-retries", "1", "--health-on-failure", "restart")
    program = ("busybox", "sh", "-c", "trap 'exit 3' TERM HUP; while :; do sleep 100 & wait $!; done")
    id = sampan("create", "--name", "web", "--network", "none", *often, "--health-cmd", "sleep 0.02", *program).line
    for end in (("kill", "-s", "HUP"), ("stop",)):
        sampan("start", "web")
        wait_until(lambda: health(sampan) == "healthy")
        sampan(*end, "web")
        wait_until(lambda: sampan("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web").line == "exited 3")

    told = sampan(
        "events", "--since", "1m", "--until", "0s", "--filter", f"container={id}", "--format", "{{.Action}}"
    ).lines
    assert [told.count(action) for action in ("start", "restart", "health_status: unhealthy")] == [2, 0, 0]


def test_a_paused_container_is_left_alone(sampan: Sampan) -> None:
    run(sampan, *QUICK, *CHECK)
    wait_until(lambda: health(sampan) == "healthy")
    sampan("pause", "web")
    wait_until(lambda: sampan("inspect", "-f", "{{.State.Status}}", "web").line == "paused")

    assert health(sampan) == "healthy"
    sampan("unpause", "web")
    sampan("exec", "web", "touch", "/sick")
    wait_until(lambda: health(sampan) == "unhealthy")


STARTUP = ("--health-startup-cmd", "test -e /up || { echo not up; exit 3; }", "--health-startup-interval", "50ms")


def checked(sampan: Sampan) -> Any:
    return sampan.inspect("web")["State"]["Health"]


def test_a_container_has_started_once_its_startup_check_succeeds_and_a_servers_end_forgets_nothing(
    sampan: Sampan, tmp_path: Path
) -> None:
    """The latest checks are in the file, too, and `update` changes both checks while it runs."""
    log = ("--health-log-destination", str(tmp_path), "--health-max-log-count", "3", "--health-max-log-size", "4")
    flags = (*QUICK, *CHECK, *STARTUP, "--health-startup-success", "2", *log)
    id = sampan("create", "--name", "web", "--network", "none", *flags, "busybox", "sleep", "100").line
    file = tmp_path / f"{id}-healthcheck.log"
    for path in (file, file.with_name(f".{file.name}.new")):
        path.symlink_to(tmp_path / "elsewhere")
    sampan("start", "web")
    wait_until(lambda: checked(sampan).get("Startup", {}).get("Failures", 0) > 3)

    assert [checked(sampan)[field] for field in ("Status", "FailingStreak")] == ["starting", 0]
    assert [(run["ExitCode"], run["Output"]) for run in checked(sampan)["Log"]] == [(3, "not ")] * 3
    assert sampan.fails(1, "healthcheck", "run", "web").line == "starting"
    assert "its startup check has failed" in sampan("why", "web").out
    os.kill(sampan.info("ServerPid"), signal.SIGKILL)
    assert checked(sampan)["Startup"]["Failures"] > 3
    sampan("exec", "web", "touch", "/up")
    wait_until(lambda: health(sampan) == "healthy")
    assert checked(sampan)["Startup"]["Successes"] == 2
    wait_until(lambda: json.loads(file.read_bytes())["Status"] == "healthy")
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [file.name]
    assert not file.is_symlink()
    sampan("exec", "web", "touch", "/sick")
    wait_until(lambda: health(sampan) == "unhealthy")
    assert sampan.fails(1, "healthcheck", "run", "web").line == "unhealthy"
    assert sampan("healthcheck", "run", "--ignore-result", "web").line == "unhealthy"
    sampan("update", "--health-cmd", "echo well enough", "--health-log-destination", "events_logger", "web")
    wait_until(lambda: health(sampan) == "healthy")
    assert sampan("healthcheck", "run", "web").out == ""
    wait_until(lambda: "health_log=" in sampan("events", "--since", "1m", "--until", "0s").out)
    assert "healthcheck command is not set" not in sampan("update", "--no-healthcheck", "web").err
    assert "Health" not in sampan.inspect("web")["State"]
    assert "has no defined healthcheck" in sampan.fails(125, "healthcheck", "run", "web").err
    assert "healthcheck command is not set" in sampan.fails(1, "update", "--health-retries", "3", "web").err


def test_a_container_that_does_not_start_is_restarted(sampan: Sampan) -> None:
    run(sampan, *QUICK, *CHECK, *STARTUP, "--health-startup-retries", "2", "--stop-timeout", "0")
    pid = sampan.inspect("web")["State"]["Pid"]

    wait_until(lambda: sampan.inspect("web")["State"]["Pid"] not in (0, pid))
    assert "its startup check had failed: --health-startup-retries" in sampan("why", "web").out
    sampan("update", "--health-startup-cmd", "true", "web")
    wait_until(lambda: health(sampan) == "healthy")
    assert sampan("inspect", "-f", "{{.RestartCount}}", "web").line == "0"


@pytest.mark.parametrize("end", [("stop", "-t", "0"), ("kill",)])
def test_who_stops_a_container_while_its_check_restarts_it_has_it_stopped(sampan: Sampan, end: tuple[str, ...]) -> None:
    run(sampan, *QUICK, "--rm", "--health-on-failure", "restart", "--health-cmd", "false")
    id = sampan("ps", "-q", "--no-trunc").line
    told = ("events", "--since", "1m", "--until", "0s", "--filter", f"container={id}", "--format", "{{.Action}}")
    wait_until(lambda: "kill" in sampan(*told).lines)  # by SIGTERM, which sleep does not heed as process 1

    sampan(*end, "web")
    wait_until(lambda: not sampan("ps", "-aq").lines)
    assert sampan(*told).lines.count("start") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--no-healthcheck", "--health-cmd", "true"), "--no-healthcheck conflicts with --health-* options"),
        (("--health-cmd", "true", "--health-interval", "1us"), "Interval in Healthcheck cannot be less than 1ms"),
        (
            ("--health-cmd", "true", "--health-interval", "soon"),
            'invalid argument "soon" for "--health-interval" flag: time: invalid',
        ),
        (("--health-cmd", "true", "--health-on-failure", "cry"), "invalid health-on-failure action: 'cry'"),
        (("--no-healthcheck", "--health-startup-cmd", "true"), "--no-healthcheck conflicts with --health-* options"),
        (("--health-startup-cmd", "true"), "cannot set a startup healthcheck when there is no regular healthcheck"),
        (
            ("--health-cmd", "true", "--health-log-destination", "/not/there"),
            "HealthCheck Log '/not/there' destination error: stat /not/there: no such file or directory",
        ),
        (("--health-log-destination", "/etc/passwd"), "HealthCheck Log '/etc/passwd' destination must be directory"),
    ],
)
def test_what_is_no_check_is_refused(sampan: Sampan, flags: tuple[str, ...], message: str) -> None:
    assert message in sampan.fails(125, "run", "--rm", *flags, "busybox", "true").err
