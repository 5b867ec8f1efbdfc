"""`--rootfs DIR[:O]`: a directory of the host in an image's place."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from support.sampan import Sampan


@pytest.fixture
def root(tmp_path: Path, busybox_tar: Path) -> Path:
    found = tmp_path / "root"
    found.mkdir()
    subprocess.run(["tar", "xf", busybox_tar, "-C", found], check=True)
    return found


def run(sampan: Sampan, *args: str | Path, check: bool = True):
    return sampan("run", "--rm", "--network", "none", *args, check=check)


def test_a_directory_is_written_to_and_stays(sampan: Sampan, root: Path) -> None:
    assert run(sampan, "-v", "/data", "-e", "WHAT=new", "--rootfs", root, "sh", "-c", "echo $WHAT >/file").out == ""

    assert (root / "file").read_text() == "new\n"
    assert run(sampan, "--read-only", "--rootfs", root, "sh", "-c", "touch /x || cat /file").out == "new\n"
    assert not (root / "x").exists()


def test_a_directory_that_is_only_read_has_the_containers_writes_over_it(sampan: Sampan, root: Path) -> None:
    root.chmod(0o750)
    sampan("create", "--name", "over", "--rootfs", f"{root}:O", "sh", "-c", "stat -c %a /; rm /bin/vi; echo x >/new")

    assert sampan("start", "-a", "over").out == "750\n"
    assert not (root / "new").exists()
    assert (root / "bin/vi").exists()
    assert "A /new\nC /bin\nD /bin/vi\n" in "".join(sorted(sampan("diff", "over").out.splitlines(keepends=True)))
    sampan("cp", "over:/new", root.parent / "copy")
    assert (root.parent / "copy").read_text() == "x\n"
    refused = sampan("commit", "over", "image", check=False)
    assert "can't commit over: it runs from a directory" in refused.err
    sampan("commit", "--squash", "over", "image")
    assert run(sampan, "image", "cat", "/new").out == "x\n"
    sampan("rmi", "image")


def test_it_is_like_any_other_container_but_for_the_image(sampan: Sampan, root: Path) -> None:
    sampan("run", "-d", "--name", "up", "--rootfs", root, "sleep", "99")

    assert sampan("exec", "up", "whoami").out == "root\n"
    assert sampan("ps", "--format", "{{.Names}} [{{.Image}}] {{.Size}}").out == "up [<no image>] 0B\n"
    found = sampan.inspect("up")
    assert (found["Image"], found["Config"]["Image"]) == ("", "")
    assert found["HostConfig"]["Annotations"] == {"sampan.rootfs": str(root)}
    sampan("cp", "-", "up:/", input=b"\0" * 1024)
    sampan("restart", "-t", "0", "up")
    sampan("kill", "up")
    refused = sampan("diff", "up", check=False)
    assert f"can't tell what up has changed: it runs from {root} itself" in refused.err
    (root / "there").write_text("before")
    sampan("cp", "up:/there", root.parent / "copy")
    assert (root.parent / "copy").read_text() == "before"
    sampan("export", "-o", root.parent / "tar", "up")
    with tarfile.open(root.parent / "tar") as archive:
        assert "there" in archive.getnames()
    sampan("rm", "up")
    assert (root / "there").exists()


def test_it_is_seen_to_that_the_directory_is_there_at_each_start(sampan: Sampan, root: Path) -> None:
    sampan("create", "--name", "gone", "--rootfs", root, "true")
    root.rename(root.parent / "moved")

    refused = sampan("start", "gone", check=False)
    assert f"what the container runs from is gone: {root}" in refused.err
    sampan("rm", "gone")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/not/there", "running container create option: stat /not/there: no such file or directory"),
        ("/etc/passwd:O", "running container create option: stat /etc/passwd: not a directory"),
        ("/", "can't run from / itself"),
    ],
)
def test_what_no_container_can_run_from_is_refused(sampan: Sampan, path: str, message: str) -> None:
    refused = run(sampan, "--rootfs", path, "true", check=False)

    assert refused.code == 125
    assert refused.err.splitlines()[0].startswith("sampan: Error response from daemon: ")
    assert message in refused.err
    assert sampan("ps", "-aq").out == ""


def test_the_script_that_explain_prints_makes_the_same(sampan: Sampan, root: Path) -> None:
    script = run(sampan, "--explain=sh", "--rootfs", root, "sh", "-c", "echo by hand >/hand").out

    subprocess.run(["sh"], input=script.encode(), check=True, timeout=30)
    assert (root / "hand").read_text() == "by hand\n"


def test_nothing_is_pulled_for_a_directory(sampan: Sampan, root: Path) -> None:
    for words in (("--pull", "always"), ("--platform", "linux/arm64")):
        assert "mean nothing with --rootfs" in run(sampan, *words, "--rootfs", root, "true", check=False).err
