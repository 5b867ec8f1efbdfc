"""The built-in `host` image: a throw-away copy of this machine, without its secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.sampan import Sampan


def host(sampan: Sampan, script: str) -> str:
    return sampan("run", "--rm", "host", "sh", "-c", script).line


def test_it_runs_this_machines_programs(sampan: Sampan) -> None:
    assert host(sampan, "echo hello") == "hello"
    assert host(sampan, "cat /etc/debian_version") == Path("/etc/debian_version").read_text().rstrip("\n")


def test_what_is_changed_in_it_is_not_changed_here(sampan: Sampan) -> None:
    marks = ["/usr/bin/sampan-test-mark", "/etc/sampan-test-mark", "/opt/sampan-test-mark"]
    script = f"touch {' '.join(marks)}; rm /etc/debian_version; test -e /etc/debian_version || echo gone"

    assert host(sampan, script) == "gone"
    assert not any(os.path.exists(mark) for mark in marks)
    assert os.path.exists("/etc/debian_version")


def test_it_hides_homes_keys_and_passwords(sampan: Sampan) -> None:
    assert host(sampan, "ls -A /root | grep -v -e '^\\.bashrc$' -e '^\\.profile$'; true") == ""
    assert host(sampan, "ls -A /home") == "" or host(sampan, "ls -A /home/*") == ""
    assert host(sampan, "cat /etc/ssh/ssh_host_*_key /etc/ssl/private/* 2>/dev/null; true") == ""
    for line in host(sampan, "cat /etc/shadow").splitlines():
        assert line.split(":")[1] in {"*", "!", "!*", "!!", ""}, line


def test_it_does_not_show_sampans_own_state(sampan: Sampan) -> None:
    assert host(sampan, f"ls -A {sampan.root} 2>/dev/null; true") == ""


def test_submounts_are_not_part_of_it(sampan: Sampan) -> None:
    marker = Path("/dev/shm") / f"sampan-test-{os.getpid()}"
    marker.write_text("x")
    try:
        assert host(sampan, f"ls {marker} 2>/dev/null; true") == ""
    finally:
        marker.unlink()


def test_package_scripts_work_in_it(sampan: Sampan) -> None:
    assert host(sampan, "useradd --system newdaemon && getent passwd newdaemon | cut -d: -f1") == "newdaemon"
    assert "newdaemon" not in Path("/etc/passwd").read_text()


def test_what_a_program_would_change_here_is_told(sampan: Sampan) -> None:
    script = "echo x > /etc/sampan-test-mark; rm /etc/debian_version; useradd --system newdaemon"
    sampan("run", "--name", "tried", "host", "sh", "-c", script)

    told = sampan("diff", "tried").lines

    assert {"C /etc", "A /etc/sampan-test-mark", "D /etc/debian_version", "C /etc/passwd"} <= set(told)
    assert all(line.split("/")[1] in {"etc", "var", "home", "run"} for line in told)


def test_it_is_listed_and_can_not_be_removed(sampan: Sampan) -> None:
    assert "host" in sampan("images", "--format", "{{.Repository}}").lines
    assert sampan.fails(1, "rmi", "host").err


@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="kernel: this host has no python3 of its own")
def test_this_machines_python_runs_in_it(sampan: Sampan) -> None:
    assert host(sampan, "/usr/bin/python3 -c 'print(6*7)'") == "42"
