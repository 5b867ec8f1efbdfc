"""--explain: the steps as text and JSON, and a script that makes the same container by hand."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from support.sampan import Sampan


def test_text_shows_every_step_with_command_time_and_manual_page(sampan: Sampan) -> None:
    said = sampan("run", "--explain", "--rm", "busybox", "echo", "ran")

    assert said.out == "ran\n"
    for word in ("overlay", "pivot_root", "mount -t proc", "cgroups(7)", "capabilities(7)", "seccomp(2)", "execve(2)"):
        assert word in said.err, word
    assert re.search(r"^ *\d+\. mount proc on /proc .*\[\d+\.\d\d ms\]$", said.err, re.MULTILINE)


def test_create_and_exec_explain_too(sampan: Sampan) -> None:
    assert "pivot_root" in sampan("create", "--name", "web", "--explain", "busybox", "sleep", "100").err
    sampan("start", "web")

    said = sampan("exec", "--explain", "web", "echo", "in")

    assert "setns(2)" in said.err
    assert said.line == "in"


def test_json_is_one_document_with_the_same_steps(sampan: Sampan) -> None:
    found = sampan("create", "--explain=json", "busybox", "true").json()

    steps = found["steps"]
    assert {"who", "sentence", "shell", "man"} <= set(steps[0])
    assert any("pivot_root" in step["shell"] + step["sentence"] for step in steps)


SEEN = (
    "cat /proc/self/mountinfo; echo ---; grep -E 'Cap|Seccomp:|NoNewPrivs' /proc/self/status; "
    "grep -E 'open files' /proc/self/limits; cut -d: -f2 /proc/self/cgroup; "
    "cd /sys/fs/cgroup; cat */memory.limit_in_bytes */pids.max */cpu.cfs_quota_us; "
    "cat memory.max pids.max cpu.max 2>/dev/null; id; umask"
)


def normal(text: str) -> list[str]:
    """Mount points, filesystems and options without ids, in order; then what else was looked at."""
    mounts, rest = text.split("---\n")
    rows = []
    for line in mounts.splitlines():
        left, right = line.split(" - ")
        fields = left.split()
        kind, _, options = right.split()
        options = re.sub(r"(lowerdir\+?|upperdir|workdir)=[^,]*,?", "", options)
        rows.append(f"{fields[4]} {fields[5]} {kind} {options}")
    return [*rows, *rest.splitlines()]


OVERLAID = ["-v", "/etc:/over:O"]
LIMITED = ["--memory", "64m", "--pids-limit", "40", "--cpus", "0.5", "--ulimit", "nofile=100:200"]


@pytest.mark.parametrize(
    "flags", [OVERLAID, ["--read-only", "--cap-drop", "ALL", *LIMITED]], ids=["overlaid", "limited"]
)
def test_the_script_makes_the_same_container_without_sampan(sampan: Sampan, tmp_path: Path, flags: list[str]) -> None:
    command = ["--hostname", "box", *flags, "busybox", "sh", "-c", SEEN]
    ours = sampan("run", "--rm", *command).out
    script = sampan("run", "--explain=sh", *command).out
    (tmp_path / "by-hand.sh").write_text(script)

    done = subprocess.run(
        ["sh", tmp_path / "by-hand.sh"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    )

    assert done.returncode == 0, done.stderr
    assert normal(done.stdout) == normal(ours)


def test_the_script_leaves_nothing_behind(sampan: Sampan, tmp_path: Path) -> None:
    script = sampan("run", "--explain=sh", "busybox", "true").out
    (tmp_path / "by-hand.sh").write_text(script)

    with subprocess.Popen(["sh", tmp_path / "by-hand.sh"], stdin=subprocess.DEVNULL) as by_hand:
        assert by_hand.wait(60) == 0

    assert sampan.mounts() == []
    assert sampan.cgroups() == []
    groups = set(re.findall(r"/sys/fs/cgroup/[\w,./-]*\$name", script))
    assert groups
    assert not [group for group in groups if Path(group.replace("$name", f"sampan-by-hand-{by_hand.pid}")).exists()]


def test_a_bad_format_is_refused(sampan: Sampan) -> None:
    assert "--explain" in sampan.fails(125, "run", "--explain=nosuch", "busybox", "true").err


def test_json_of_exec(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "busybox", "sleep", "100")

    found = json.loads(sampan("exec", "--explain=json", "web", "true").out)

    assert found["steps"]
