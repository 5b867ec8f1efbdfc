"""`--explain=sh` writes a script that makes the same container without sampan: both are run and compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sampan.runtime import explain
from sampan.runtime.plan import plan_exec
from sampan.spec.runtime import Memory, Mount, Pids, Resources, Rlimit, Root, User
from support.containers import HOST, PARENT, Box, facts, left_behind, remove_parents, with_linux

LOOK = """
cat /proc/self/mountinfo; echo ----
grep -E '^(Cap|Seccomp:|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status
cat /proc/self/cgroup; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null
cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max 2>/dev/null
env | grep -v SHLVL; hostname; ulimit -n; umask; pwd; ls -l /dev; ls /proc/$$/fd
for n in cgroup ipc mnt net pid uts user; do readlink /proc/self/ns/$n; done
"""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    yield Box(tmp_path)
    remove_parents()


def by_hand(script: str, *arguments: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # for its python3
    done = subprocess.run(
        ["sh", "-s", *arguments],
        input=script,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def comparable(text: str) -> list[str]:
    """Leave out numbers of mounts and namespaces, times, and the two writable layers."""
    lines = []
    for line in text.splitlines():
        fields = line.split(" ")
        if " - " in line:
            fields[0:3] = []
            if "overlay" in fields:
                fields[-1] = ",".join(o for o in fields[-1].split(",") if "dir" not in o)
        lines.append(re.sub(r"\[\d+\]", "[…]", re.sub(r"\d\d:\d\d", "", " ".join(fields))))
    return lines


@pytest.mark.parametrize("kind", ["default", "restricted"])
def test_the_script_makes_the_same_container(box: Box, tmp_path: Path, kind: str) -> None:
    (tmp_path / "data").mkdir()
    bind = Mount(destination="/data", type="bind", source=str(tmp_path / "data"), options=("rbind", "ro", "nosuid"))
    scratch = Mount(destination="/scratch", type="tmpfs", source="tmpfs", options=("nosuid", "mode=700"))
    spec = box.spec("sh", "-c", LOOK, mounts=(bind, scratch), cwd="/srv")
    if kind == "restricted":
        limits = Resources(memory=Memory(limit=64 << 20), pids=Pids(limit=30))
        spec = with_linux(spec, resources=limits)
        process = msgspec.structs.replace(
            spec.process,
            user=User(username="web", umask=0o27),
            no_new_privileges=True,
            rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=50, hard=60),),
        )
        spec = msgspec.structs.replace(spec, process=process, root=Root(path=spec.root.path, readonly=True))
    script = explain.to_shell(box.plan(spec))
    before = facts(box.directory)

    made = by_hand(script)

    assert not left_behind(before, box.directory)
    assert comparable(made) == comparable(box.run(spec).out)


def test_the_script_leaves_no_group_and_no_directory(box: Box) -> None:
    script = explain.to_shell(box.plan(box.spec("true")))
    script += '\necho "$place $name"\n'

    place, name = by_hand(script).split()

    assert not Path(place).exists()
    for _, point in HOST.cgroup_mounts:
        assert not Path(point, name).exists()


def test_the_script_of_an_exec_enters_the_container(box: Box) -> None:
    spec = box.spec("sleep", "100")
    with box.running(spec) as (running, _):
        process = msgspec.structs.replace(spec.process, args=("sh", "-c", LOOK))
        made = plan_exec(process, spec, HOST, id=box.plan_id(running), cgroup_parent=PARENT)
        script = explain.to_shell(made)

        assert comparable(by_hand(script, str(running.pid))) == comparable(
            box.exec(spec, running, "sh", "-c", LOOK).out
        )


def test_words_and_json_name_every_step(box: Box) -> None:
    spec = box.spec("true")
    plan = box.plan(spec)
    with box.running(spec) as (running, finish):
        finish()

    text, document = explain.to_text(plan, running.steps), explain.to_json(plan, running.steps)
    assert len(document["steps"]) == len(plan.steps)
    assert "mount an overlay of 1 layer on" in text
    assert "mount -t overlay" in text
    assert all(row["sentence"] in text and row["shell"] and row["man"] for row in document["steps"])
    assert all("ns" in row for row in document["steps"][:-1])
