"""What Podman's `run` has and Docker's has not."""

from __future__ import annotations

import os
import signal
import socket
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from support.sampan import Sampan, wait_until


def run(sampan: Sampan, *args: str, **how: object) -> list[str]:
    return sampan("run", "--rm", "--network", "none", *args, **how).lines  # type: ignore[arg-type]


def test_a_container_replaces_the_one_of_its_name(sampan: Sampan) -> None:
    first = sampan("run", "-d", "--name", "web", "busybox", "sleep", "100").line
    second = sampan("run", "-d", "--replace", "--name", "web", "busybox", "sleep", "100").line

    assert sampan("ps", "-a", "--no-trunc", "--format", "{{.ID}}").lines == [second] != [first]
    third = sampan("create", "--replace", "--name", "other", "busybox", "true")
    assert third.code == 0
    assert "without --name" in sampan.fails(125, "run", "--replace", "busybox", "true").err


def test_one_that_runs_for_too_long_is_killed_also_by_a_server_that_came_later(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "--network", "none", "--timeout", "1", "busybox", "sleep", "100")
    os.kill(sampan.info("ServerPid"), signal.SIGKILL)

    wait_until(lambda: sampan("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web").line == "exited 137")
    state = sampan.inspect("web")["State"]
    began, ended = (datetime.fromisoformat(state[when][:26]) for when in ("StartedAt", "FinishedAt"))
    assert ended - began >= timedelta(seconds=1)


def test_the_mask_of_new_files(sampan: Sampan) -> None:
    show = ("busybox", "sh", "-c", "touch /f; stat -c %a /f; umask")

    assert run(sampan, "--umask", "0027", *show) == ["640", "0027"]
    assert run(sampan, *show) == ["644", "0022"]
    assert "invalid umask: '9'" in sampan.fails(125, "run", "--umask", "9", "busybox", "true").err


def test_the_time_zone(sampan: Sampan) -> None:
    assert run(sampan, "--tz", "Asia/Tokyo", "busybox", "date", "+%Z") == ["JST"]
    assert "unknown time zone Mars/Base" in sampan.fails(125, "run", "--tz", "Mars/Base", "busybox", "date").err
    assert "unknown time zone ../x" in sampan.fails(125, "run", "--tz", "../x", "busybox", "date").err


def test_variables_of_the_shell_and_those_that_the_image_is_to_lose(sampan: Sampan) -> None:
    sampan("commit", "--change", "ENV A=1 B=2", sampan("create", "busybox", "true").line, "vars")
    shown = run(sampan, "--unsetenv", "A", "--env-host", "-e", "C=3", "vars", "env", env={"OF_THE_SHELL": "yes"})

    assert "B=2" in shown
    assert "C=3" in shown
    assert "OF_THE_SHELL=yes" in shown
    assert not [line for line in shown if line.startswith("A=")]
    assert not [line for line in run(sampan, "--unsetenv-all", "vars", "env") if line.startswith(("A=", "B="))]


@pytest.mark.parametrize("seconds", ["-1", "x"])
def test_a_timeout_that_is_none_is_refused(sampan: Sampan, seconds: str) -> None:
    assert sampan.fails(125, "run", "--rm", "--timeout", seconds, "busybox", "true").err


def test_what_is_required_runs_before_and_stays(sampan: Sampan, tmp_path: Path) -> None:
    def running() -> set[str]:
        return set(sampan("ps", "--format", "{{.Names}}").lines)

    def made(name: str, *flags: str, command: str = "sleep 100") -> None:
        sampan("create", "--name", name, "--network", "none", *flags, "busybox", *command.split())

    source = tmp_path / "source"
    source.mkdir()
    made("db", "--mount", f"type=bind,src={source},dst=/data")
    made("queue")
    made("app", "--requires", "db,queue", "--restart", "on-failure:1")
    made("web", "--requires", "app", "--requires", "queue")
    sampan("start", "web")
    assert running() == {"db", "queue", "app", "web"}
    sampan("stop", "-t", "0", "db")
    sampan("start", "app")
    assert running() == {"queue", "app", "web"}, "it runs already"
    assert "db" not in sampan("container", "prune", "--dry-run").out
    sampan("restart", "-t", "0", "app")
    assert running() == {"db", "queue", "app", "web"}

    for name in ("db", "queue"):
        assert "has dependent containers which must be removed before it: app" in sampan.fails(1, "rm", "-f", name).err
    sampan("stop", "-t", "0", "web", "queue", "db")
    source.rmdir()
    os.kill(sampan.inspect("app")["State"]["Pid"], signal.SIGKILL)
    wait_until(lambda: sampan.inspect("app")["State"]["Status"] == "exited")
    assert "it requires db" in sampan.inspect("app")["State"]["Error"]
    assert "app: it requires db" in sampan.fails(1, "start", "app").err
    assert sampan("rm", "--depend", "db").lines == ["web", "app", "db"]

    assert "cannot be used as a dependency" in sampan.fails(125, "run", "--requires", "none", "busybox", "true").err
    made("broken", command="/none")
    broken = sampan.fails(125, "run", "--name", "x1", "--requires", "broken", "busybox", "true")
    assert "can't start x1: it requires broken: " in broken.err

    made("late", "--restart", "always", "-v", f"{tmp_path}:/here", command="tail -f /here/go")
    made("user", "--requires", "late")
    sampan("start", "late")
    wait_until(lambda: sampan.inspect("late")["RestartCount"] > 4)
    (tmp_path / "go").touch()
    sampan("start", "user")
    assert sampan.inspect("late")["State"]["Status"] == "running", "it has not waited for its next try"


def test_systemd_is_told_of_the_start(sampan: Sampan, tmp_path: Path) -> None:
    def told() -> str:
        return systemd.recv(1024).decode()

    def run_notified(mode: str, *flags: str, code: int = 0) -> str:
        words = ("run", "-d", "--name", mode, "--network", "none", "--sdnotify", mode, *flags)
        return sampan.fails(code, *words, env={"NOTIFY_SOCKET": str(path)}).err

    path = tmp_path / "notify"
    forever = ("busybox", "sh", "-c", "echo $NOTIFY_SOCKET; ls $NOTIFY_SOCKET; sleep 100")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(30)
        systemd.bind(str(path))
        for mode, ready in (("conmon", "\nREADY=1"), ("container", "")):
            run_notified(mode, *forever)
            assert told() == f"MAINPID={sampan.inspect(mode)['State']['Pid']}{ready}"
        inside = "/run/notify/notify.sock"
        wait_until(lambda: sampan("logs", "container").lines == [inside, inside])
        assert sampan("logs", "conmon").lines[0] == ""

        run_notified("healthy", "--health-cmd", "test -e /well || ! touch /well", "--health-interval", "1s", *forever)
        assert told().startswith("MAINPID=")
        assert told() == "READY=1"
        assert sampan.inspect("healthy")["State"]["Health"]["Status"] == "healthy"
        notified = {"NOTIFY_SOCKET": str(path)}
        assert run(sampan, "--sdnotify", "conmon", "busybox", "echo", "short", env=notified) == ["short"]
        assert told().splitlines()[-1] == "READY=1"
        run_notified("ignore", *forever)
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(1)
    sampan("rm", "-f", "healthy", "conmon")
    assert "the container has no health check" in run_notified("healthy", *forever, code=125)
    assert "can't tell systemd at" in run_notified("conmon", *forever), "podman says it, and goes on"
    assert 'invalid sdnotify value "no"' in sampan.fails(125, "run", "--sdnotify", "no", "busybox", "true").err
    assert "add -d" in sampan.fails(125, "run", "--sdnotify", "healthy", "busybox", "true").err
