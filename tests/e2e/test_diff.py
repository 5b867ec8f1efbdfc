"""`sampan diff`: the lines that Docker prints (tests/interop compares with the real one)."""

from __future__ import annotations

import tarfile
from pathlib import Path

from support.sampan import Sampan, wait_until

SCRIPT = """
echo hi > /etc/new; chmod 600 /etc/passwd; rm /etc/group; rm -r /var; echo file > /var
mkdir -p /a/b; echo x > /a/b/f; ln -s f /a/b/link; touch /root/x; rm /root/x
"""
CHANGES = {
    *("C /etc", "A /etc/new", "C /etc/passwd", "D /etc/group", "C /var"),
    *("A /a", "A /a/b", "A /a/b/f", "A /a/b/link"),
}


def test_it_tells_what_was_added_changed_and_deleted(sampan: Sampan) -> None:
    sampan("run", "--name", "one", "busybox", "sh", "-c", SCRIPT)

    lines = sampan("diff", "one").lines

    assert set(lines) == CHANGES
    assert lines == sorted(lines, key=lambda line: line[2:].split("/"))
    assert sampan("container", "diff", "one").lines == lines


def test_a_container_may_run_or_not_have_begun(sampan: Sampan) -> None:
    sampan("create", "--name", "new", "busybox", "true")
    sampan("run", "-d", "--name", "on", "busybox", "sh", "-c", "touch /mark; sleep 100")
    wait_until(lambda: sampan("diff", "on").out)

    assert sampan("diff", "new").out == ""
    assert sampan("diff", "on").lines == ["A /mark"]


def test_what_the_engine_mounts_does_not_show_and_what_the_user_mounts_does(sampan: Sampan) -> None:
    sampan("run", "--name", "one", "-v", "data:/data", "--tmpfs", "/scratch", "-t", "busybox", "true")

    assert sampan("diff", "one").lines == ["A /data", "A /scratch"]


def test_the_mark_of_a_container_is_in_each_and_in_its_archive_and_no_change_of_its(
    sampan: Sampan, tmp_path: Path
) -> None:
    look = "stat -c '%a %u %g %s' /.dockerenv"

    for flags in ((), ("--read-only",), ("--userns", "auto")):
        assert sampan("run", "--name", "one", *flags, "busybox", "sh", "-c", look).lines == ["755 0 0 0"]
        assert sampan("diff", "one").out == ""
        sampan("export", "-o", tmp_path / "one.tar", "one")
        sampan("rm", "one")
    sampan("import", tmp_path / "one.tar", "exported")
    sampan("run", "--name", "two", "exported", "rm", "/.dockerenv")

    with tarfile.open(tmp_path / "one.tar") as archive:
        assert archive.getmember(".dockerenv").size == 0
    assert sampan("diff", "two").lines == ["D /.dockerenv"]
    sampan("rmi", "-f", "exported")


def test_a_container_that_is_not_there_is_dockers_error(sampan: Sampan) -> None:
    said = sampan.fails(1, "diff", "nosuch")

    assert said.err.startswith("Error response from daemon: No such container: nosuch")


def test_names_that_are_no_utf8_are_told_with_replacement_marks(sampan: Sampan) -> None:
    sampan("run", "--name", "one", "busybox", "sh", "-c", r"touch $(printf '/a\377b')")

    assert sampan("diff", "one").lines == ["A /a\ufffdb"]


def test_ten_thousand_new_files_are_told(sampan: Sampan) -> None:
    sampan("run", "--name", "one", "busybox", "sh", "-c", "mkdir /d; cd /d; seq 10000 | xargs touch")

    assert len(sampan("diff", "one").lines) == 10_001
