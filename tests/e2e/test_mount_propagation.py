"""Mounts that travel between the host and a container, and what a bind needs for that."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sampan import Sampan, new_root, wait_until


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a shared mount with a directory in it, made before the engine that is to see it starts."""
    place = tmp_path_factory.mktemp("shared")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        subprocess.run(["mount", "--make-private", place], check=True)
        subprocess.run(["mount", "--make-shared", place], check=True)
        (place / "sub").mkdir()
        (place / "private").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place / "private"], check=True)
        subprocess.run(["mount", "--make-private", place / "private"], check=True)
        yield place
    finally:
        subprocess.run(["umount", "-R", place], check=True)


@pytest.fixture(scope="module")
def engine(place: Path, busybox_tar: Path) -> Iterator[Sampan]:
    sampan = Sampan(new_root())
    try:
        sampan("import", busybox_tar, "busybox")
        yield sampan
    finally:
        sampan.end()


@pytest.fixture
def sampan(engine: Sampan, place: Path) -> Iterator[Sampan]:
    yield engine
    engine.remove_everything()
    while is_mounted(place / "sub"):
        subprocess.run(["umount", place / "sub"], check=True)


def is_mounted(path: Path) -> bool:
    return f" {path} " in Path("/proc/self/mountinfo").read_text()


def test_mounts_travel_both_ways_through_a_shared_bind(sampan: Sampan, place: Path) -> None:
    sampan("run", "-d", "--name", "peer", "--privileged", "-v", f"{place}:/d:rshared", "busybox", "sleep", "99")

    sampan("exec", "peer", "mount", "-t", "tmpfs", "x", "/d/sub")
    assert is_mounted(place / "sub")
    sampan("exec", "peer", "umount", "/d/sub")
    subprocess.run(["mount", "-t", "tmpfs", "from-the-host", place / "sub"], check=True)
    assert "from-the-host /d/sub" in sampan("exec", "peer", "cat", "/proc/mounts").out


@pytest.mark.parametrize("propagation", ["rslave", "rprivate"])
def test_mounts_do_not_leave_by_another_bind(sampan: Sampan, place: Path, propagation: str) -> None:
    mount = f"type=bind,src={place},dst=/d,bind-propagation={propagation}"
    sampan("run", "-d", "--name", "inner", "--privileged", "--mount", mount, "busybox", "sleep", "99")

    sampan("exec", "inner", "mount", "-t", "tmpfs", "x", "/d/sub")
    assert not is_mounted(place / "sub")
    sampan("exec", "inner", "umount", "/d/sub")
    subprocess.run(["mount", "-t", "tmpfs", "from-the-host", place / "sub"], check=True)
    seen = "from-the-host /d/sub" in sampan("exec", "inner", "cat", "/proc/mounts").out
    assert seen is (propagation == "rslave")
    assert sampan.inspect("inner")["Mounts"][0]["Propagation"] == propagation


@pytest.mark.parametrize(("word", "kind"), [("rshared", "a shared mount"), ("slave", "a shared or slave mount")])
def test_what_is_on_no_shared_mount_is_refused_in_dockers_words(
    sampan: Sampan, place: Path, word: str, kind: str
) -> None:
    refused = sampan("run", "--rm", "-v", f"{place}/private/sub:/d:{word}", "busybox", "true", check=False)

    assert refused.code == 125
    assert f"path {place}/private/sub is mounted on {place}/private but it is not {kind}\n" in refused.err
    assert f"mount --make-shared {place}/private" in refused.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "there\n/x ro\n/x/private ro\n"),  # as far as the kernel can, which is all of it
        (",bind-recursive=readonly,bind-propagation=rprivate", "there\n/x ro\n/x/private ro\n"),
        (",bind-recursive=writable", "there\n/x ro\n/x/private rw\n"),
        (",bind-recursive=disabled", "/x ro\n"),
        (",bind-nonrecursive", "/x ro\n"),
    ],
)
def test_read_only_reaches_what_is_mounted_below_unless_it_is_not_to(
    sampan: Sampan, place: Path, options: str, said: str
) -> None:
    (place / "private/there").touch()
    show = "while read _ at _ how _; do case $at in /x*) echo $at ${how%%,*};; esac; done </proc/mounts"
    script = f"test -e /x/private/there && echo there; {show}"

    mount = f"type=bind,src={place},dst=/x,readonly{options}"
    found = sampan("run", "--rm", "--mount", mount, "busybox", "sh", "-c", script)
    assert found.out == said


def test_a_source_that_can_not_be_made_is_said_in_dockers_words(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    refused = sampan("run", "--rm", "-v", f"{tmp_path}/file/sub:/d", "busybox", "true", check=False)

    assert refused.code == 125
    assert f"error while creating mount source path '{tmp_path}/file/sub': " in refused.err


def test_they_travel_also_when_keeper_and_server_were_killed(sampan: Sampan, place: Path) -> None:
    for who in ("KeeperPid", "ServerPid"):
        pid = sampan.info(who)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid, who=who: sampan.info(who) != pid, what=f"another {who}")

    arguments = ("--privileged", "-v", f"{place}:/d:shared", "busybox", "mount", "-t", "tmpfs", "x", "/d/sub")
    sampan("run", "--rm", *arguments)

    assert is_mounted(place / "sub")


def test_what_was_mounted_too_late_to_be_seen_is_refused_and_not_shown_empty(sampan: Sampan, tmp_path: Path) -> None:
    late = tmp_path / "late"
    late.mkdir()
    sampan("run", "--rm", "-v", f"{late}:/d", "busybox", "true")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", late], check=True)
    try:
        (late / "file").touch()

        seen = sampan("run", "--rm", "-v", f"{late}:/d", "busybox", "ls", "/d", check=False)
        if is_root_shared():
            assert seen.line == "file"
        else:
            assert f"can't bind {late}: {late} was mounted after this engine's start" in seen.err
            sampan("system", "stop")
            assert sampan("run", "--rm", "-v", f"{late}:/d", "busybox", "ls", "/d").line == "file"
    finally:
        subprocess.run(["umount", late], check=True)


def is_root_shared() -> bool:
    lines = Path("/proc/1/mountinfo").read_text().splitlines()
    return any(line.split()[4] == "/" and " shared:" in line for line in lines)
