"""`sampan export`: all files of a container as a tar, and back."""

from __future__ import annotations

import os
import pty
import subprocess
import tarfile
from pathlib import Path

import pytest

from support.faults import stopped
from support.sampan import PROGRAM, Sampan, wait_until

SCRIPT = """
mkdir -p /d/e; echo new > /d/e/f; ln -s f /d/e/link; ln /d/e/f /d/hard; mknod /d/null c 1 3; mknod /d/fifo p
rm /etc/group; rm -r /var; chown 5:6 /d/e/f; chmod 4755 /d/hard; touch "/d/with space" /d/$(printf 'n\\377')
"""


@pytest.fixture
def made(sampan: Sampan) -> Sampan:
    sampan("run", "--name", "one", "-v", "data:/data", "busybox", "sh", "-c", SCRIPT + "echo volume > /data/file")
    return sampan


def test_it_has_all_files_of_image_and_container(made: Sampan, tmp_path: Path) -> None:
    made("export", "-o", tmp_path / "a.tar", "one")

    with tarfile.open(tmp_path / "a.tar", errors="surrogateescape") as archive:
        found = {member.name: member for member in archive}
    assert {"bin/busybox", "d/e/f", "d/with space", "d/n\udcff", "etc/passwd"} <= set(found)
    assert not {"etc/group", "var", "var/tmp", "data/file"} & set(found)
    assert (found["d/e/link"].linkname, found["d/hard"].linkname) == ("f", "d/e/f")
    assert (found["d/hard"].mode, found["d/hard"].uid, found["d/hard"].gid) == (0o4755, 5, 6)
    assert (found["d/null"].devmajor, found["d/null"].devminor) == (1, 3)
    assert list(found) == sorted(found, key=lambda name: name.split("/"))
    assert os.stat(tmp_path / "a.tar").st_mode & 0o777 == 0o600


def test_what_is_imported_again_exports_the_same(made: Sampan, tmp_path: Path) -> None:
    made("export", "-o", tmp_path / "a.tar", "one")
    made("import", tmp_path / "a.tar", "again:1")
    made("create", "--name", "two", "again:1", "true")

    second = subprocess.run([PROGRAM, "export", "two"], env=made.env, check=True, capture_output=True).stdout

    assert second == (tmp_path / "a.tar").read_bytes()


def test_a_running_container_is_exported_as_it_is(sampan: Sampan, tmp_path: Path) -> None:
    sampan("run", "-d", "--name", "one", "busybox", "sh", "-c", "echo > /mark; while :; do date > /now; done")
    wait_until(lambda: "A /now" in sampan("diff", "one").lines)
    sampan("export", "-o", tmp_path / "a.tar", "one")

    with tarfile.open(tmp_path / "a.tar") as archive:
        assert {"mark", "now"} <= set(archive.getnames())


def test_a_container_of_this_machines_root_is_exported_without_what_is_mounted(sampan: Sampan) -> None:
    sampan("run", "--name", "one", "host", "sh", "-c", "echo tried > /etc/sampan-test-mark")

    with subprocess.Popen([PROGRAM, "export", "one"], env=sampan.env, stdout=subprocess.PIPE) as export:
        with tarfile.open(fileobj=export.stdout, mode="r|") as archive:
            names = []
            for member in archive:
                names.append(member.name)
                if member.name == "etc/sampan-test-mark":
                    break
        export.kill()

    assert names[-1] == "etc/sampan-test-mark"
    assert not [name for name in names if name.startswith(("dev/shm/", "etc/ssh/ssh_host"))]


def test_a_terminal_is_refused(made: Sampan) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [PROGRAM, "export", "one"], env=made.env, stdout=theirs, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)

    assert done.returncode == 1
    assert done.stderr.startswith(b"cowardly refusing to save to a terminal")


def test_a_container_that_is_not_there_leaves_no_file(sampan: Sampan, tmp_path: Path) -> None:
    said = sampan.fails(1, "export", "-o", tmp_path / "a.tar", "nosuch")

    assert said.err.startswith("Error response from daemon: No such container: nosuch")
    assert os.listdir(tmp_path) == []


def test_places_that_can_not_be_written_are_dockers_errors(made: Sampan, tmp_path: Path) -> None:
    said = made.fails(1, "export", "-o", "/nodir/x", "one").err
    assert said.startswith("failed to export container: invalid output path: stat /nodir: no such file or directory")
    assert made.fails(1, "export", "-o", tmp_path, "one").err.startswith(
        "failed to export container: cannot write to a directory"
    )


def test_a_container_removed_meanwhile_leaves_no_file(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "kept.tar").write_text("before")
    sampan("run", "--name", "one", "busybox", "sh", "-c", "dd if=/dev/zero of=/huge bs=1 count=1 seek=1G 2>/dev/null")
    export = sampan.start("export", "-o", str(tmp_path / "kept.tar"), "one")
    wait_until(lambda: _workers(sampan))
    with stopped(export.pid):  # so that the export does not come to its end before
        sampan("rm", "one")
    export.communicate(timeout=120)

    assert export.returncode != 0
    assert os.listdir(tmp_path) == ["kept.tar"]
    assert (tmp_path / "kept.tar").read_text() == "before"


def test_a_client_that_leaves_ends_the_work(sampan: Sampan) -> None:
    sampan("run", "--name", "one", "busybox", "sh", "-c", "dd if=/dev/zero of=/huge bs=1 count=1 seek=40G 2>/dev/null")
    with subprocess.Popen([PROGRAM, "export", "one"], env=sampan.env, stdout=subprocess.PIPE) as export:
        assert export.stdout is not None
        export.stdout.read(100_000)
        export.kill()

    wait_until(lambda: not _workers(sampan))


def _workers(sampan: Sampan) -> list[str]:
    keeper = sampan.info("KeeperPid")
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    return [pid for pid in children if _comm(pid) == "sampan-worker"]


def _comm(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
