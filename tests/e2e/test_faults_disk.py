"""A full disk, and files as a power cut leaves them: one clear error, nothing left, nothing committed lost."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.faults import filled, roles, small_disk, stopped
from support.images import add
from support.sampan import Sampan, new_root, wait_until


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of 24 MB."""
    with small_disk(new_root() / "disk", "24m") as directory:
        yield directory
    directory.parent.rmdir()


@pytest.fixture
def small(disk: Path, busybox_tar: Path) -> Iterator[Sampan]:
    """An instance that has BusyBox, on that disk."""
    (disk / "root").mkdir()
    sampan = Sampan(disk / "root")
    try:
        sampan("import", busybox_tar, "busybox")
        sampan("run", "--rm", "busybox", "true")
        yield sampan
    finally:
        sampan.end()


def test_an_image_too_large_for_the_disk_is_one_error_and_leaves_nothing(small: Sampan) -> None:
    large = io.BytesIO()
    with tarfile.open(fileobj=large, mode="w") as tar:
        for number in range(40):
            add(tar, f"file{number}", os.urandom(1 << 20))
    layers = {path.name for path in (small.root / "layers/sha256").iterdir()}

    result = small.fails(1, "import", "-", "large", input=large.getvalue())

    assert "no space left on device" in result.err
    assert {path.name for path in (small.root / "layers/sha256").iterdir()} == layers
    assert small.leftovers() == []
    assert small("run", "--rm", "busybox", "echo", "on").line == "on"


@pytest.mark.parametrize("leave_bytes", [0, 16384, 65536])
def test_on_a_full_disk_every_verb_fails_with_a_cause_and_works_again(
    small: Sampan, disk: Path, leave_bytes: int
) -> None:
    small("create", "--name", "old", "busybox", "true")
    with filled(disk, leave_bytes):
        for words in ("create -v /v busybox true", "run --rm busybox true", "tag busybox another", "start old"):
            result = small(*words.split(), check=False)
            if result.code:
                assert "no space left" in result.err or "disk is full" in result.err, result
                assert "Traceback" not in result.err
        assert "old" in small("ps", "-a", "--format", "{{.Names}}").lines

    assert small("run", "--rm", "busybox", "echo", "on").line == "on"
    small.remove_everything()
    assert small.leftovers() == []


def test_a_full_disk_drops_log_lines_with_a_count_and_stops_neither_container_nor_exit(
    small: Sampan, disk: Path
) -> None:
    script = "while [ ! -e /dev/shm/full ]; do usleep 5000; done; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; "
    script += "done; touch /dev/shm/written; while [ ! -e /dev/shm/free ]; do usleep 5000; done; echo last; exit 3"
    small("run", "-d", "--name", "web", "busybox", "sh", "-c", script)
    shm = f"/proc/{small.inspect('web')['State']['Pid']}/root/dev/shm"
    with filled(disk):
        Path(shm, "full").touch()
        wait_until(Path(shm, "written").exists)
        assert small("exec", "web", "echo", "in").line == "in"
    Path(shm, "free").touch()

    assert small("wait", "web").line == "3"
    lines = [line for line in small("logs", "web").lines if line.isdecimal()]
    (gap,) = [
        line for line in small("logs", "web").out.splitlines() + small_errors(small) if "are missing here" in line
    ]
    assert int(gap.split()[1]) == 2000 - len(lines)


def small_errors(sampan: Sampan) -> list[str]:
    return sampan("logs", "web").err.splitlines()


def test_killed_on_a_full_disk_server_and_keeper_come_up_and_containers_are_stopped_and_removed(
    small: Sampan, disk: Path
) -> None:
    small("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    with filled(disk):
        for role in ("server", "keeper"):
            os.kill(roles(small)[role][0], 9)

        assert small("ps", "--format", "{{.Names}}").lines == ["web"]
        small("stop", "-t", "0", "web")
        assert small.inspect("web")["State"]["ExitCode"] == 137
    small("rm", "web")
    assert small.leftovers() == []


def test_a_container_that_ended_while_its_state_could_not_be_written_is_told_all_the_same(
    small: Sampan, disk: Path
) -> None:
    small(
        "run", "-d", "--name", "web", "busybox", "sh", "-c", "while [ ! -e /dev/shm/end ]; do usleep 5000; done; exit 4"
    )
    shm = f"/proc/{small.inspect('web')['State']['Pid']}/root/dev/shm"
    with filled(disk):
        Path(shm, "end").touch()

        assert small("wait", "web").line == "4"
        assert json.loads(small("inspect", "web").out)[0]["State"]["ExitCode"] == 4


# ---------------------------------------------------------------------------------------------------- power cuts


@pytest.fixture(scope="module")
def cut_off(busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the root of an instance that ran at that moment."""
    sampan = Sampan(new_root())
    copy = tmp_path_factory.mktemp("power") / "cut"
    try:
        sampan("import", busybox_tar, "busybox")
        sampan("run", "--name", "done", "busybox", "sh", "-c", "echo hello; exit 3", check=False)
        sampan("create", "--name", "made", "-v", "vol1:/v", "busybox", "true")
        sampan("run", "-d", "--name", "web", "busybox", "sleep", "1000")
        wait_until(lambda: sampan.inspect("done")["State"]["ExitCode"] == 3)
        with stopped(*(pid for pids in roles(sampan).values() for pid in pids)):  # nothing vanishes under cp
            subprocess.run(["cp", "-a", str(sampan.root), str(copy)], check=True)
        sampan.remove_everything()
    finally:
        sampan.end()
    (copy / "instance").write_text("0badcafe\n")
    (copy / "boot").write_text("another\n")
    (copy / "run/boot_id").write_text("another\n")
    return copy


def _truncate(pattern: str, size: int = 0) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        for path in root.glob(pattern):
            os.truncate(path, size)

    return damage


def _half_a_line(root: Path) -> None:
    for path in root.glob("containers/*/*-json.log"):
        with path.open("ab") as log:
            log.write(b'{"log":"hal')


def _junk(root: Path) -> None:
    for name in ("tmp/x", f"containers/{'a' * 64}", "volumes/zz", "layers/sha256/lost+found", "shapes/x"):
        (root / name).mkdir()


HARMLESS = {
    "nothing": lambda _root: None,
    "keeper.lock": _truncate("run/keeper.lock"),
    "boot_id": _truncate("run/boot_id"),
    "no RUN": lambda root: shutil.rmtree(root / "run"),
    "state.json": _truncate("run/shims/*/state.json"),
    "half a log line": _half_a_line,
    "junk": _junk,
}
HARMFUL = {
    "state.db-wal": _truncate("state.db-wal", 5000),
    "state.db": lambda root: (root / "state.db").write_bytes(os.urandom(8192)),
    "images.db-wal": _truncate("images/images.db-wal", 5000),
    "layer.json": _truncate("layers/sha256/*/layer.json"),
    "configurations": _truncate("images/blobs/sha256/*"),
    "instance": _truncate("instance"),
}


def opened(cut_off: Path, damage: Callable[[Path], object]) -> Sampan:
    root = new_root()
    shutil.rmtree(root)
    subprocess.run(["cp", "-a", str(cut_off), str(root)], check=True)
    damage(root)
    return Sampan(root)


@pytest.mark.parametrize("damage", HARMLESS)
def test_after_a_power_cut_nothing_committed_is_lost(cut_off: Path, damage: str) -> None:
    sampan = opened(cut_off, HARMLESS[damage])
    try:
        assert sorted(sampan("ps", "-a", "--format", "{{.Names}}").lines) == ["done", "made", "web"]
        assert sampan("logs", "done").line == "hello"
        state = sampan.inspect("web")["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 255)
        assert "nobody was left to see it" in state["Error"]
        assert sampan("run", "--rm", "-v", "vol1:/v", "busybox", "echo", "on").line == "on"
        sampan.remove_everything()
        assert sampan.leftovers() == []
        assert "Traceback" not in sampan.log()
    finally:
        sampan.end()


@pytest.mark.parametrize("damage", HARMFUL)
def test_what_is_damaged_is_said_in_one_sentence(cut_off: Path, damage: str) -> None:
    sampan = opened(cut_off, HARMFUL[damage])
    try:
        for words in ("ps -a", "images", "run --rm busybox true", "inspect web"):
            result = sampan(*words.split(), check=False)
            assert "Traceback" not in result.err
            assert result.code == 0 or result.err.strip(), result
        assert "Traceback" not in sampan.log()
    finally:
        sampan.end()
