"""A store that lies on overlayfs, as where sampan runs in a container without a volume; and one on tmpfs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sampan import Sampan, new_root, wait_until


@pytest.fixture(params=["tmpfs", "overlay"])
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory on such a filesystem."""
    base = new_root()
    mounted = []

    def mount(target: Path, *options: str) -> None:
        subprocess.run(["mount", *options, target], check=True)
        mounted.append(target)

    mount(base, "-t", "tmpfs", "tmpfs")
    if request.param == "overlay":
        for name in ("lower", "upper", "work", "merged"):
            (base / name).mkdir()
        mount(
            base / "merged", "-t", "overlay", "overlay", "-o",
            f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work",
        )  # fmt: skip
    yield mounted[-1] / "root"
    for target in reversed(mounted):
        subprocess.run(["umount", target], check=True)
    shutil.rmtree(base)


@pytest.fixture
def sampan(place: Path, busybox_tar: Path) -> Iterator[Sampan]:
    place.mkdir()
    sampan = Sampan(place)
    sampan("import", busybox_tar, "busybox")
    yield sampan
    sampan.end()


def test_a_container_runs_and_keeps_what_it_wrote_until_it_is_removed(sampan: Sampan) -> None:
    sampan(
        "run", "--name", "app", "busybox", "sh", "-c", "cat /etc/new 2>/dev/null; rm -f /etc/group; echo 1 > /etc/new"
    )
    (there,) = sampan.root.glob("containers/*")
    upper = os.path.realpath(there / "upper")
    assert os.path.isdir(upper)

    assert sampan("start", "-a", "app").line == "1"
    assert sampan("inspect", "-s", "--format", "{{.SizeRw}}", "app").line == "2"
    sampan("rm", "app")
    wait_until(lambda: not os.path.exists(upper))


def test_what_was_written_can_be_told_and_made_an_image(sampan: Sampan) -> None:
    sampan("run", "--name", "app", "busybox", "sh", "-c", "rm /etc/group; rm -r /home; mkdir /home; echo 1 > /etc/new")
    sampan("commit", "app", "mine:1")
    sampan("run", "--name", "next", "mine:1", "sh", "-c", "rm /etc/passwd; ls /etc")
    sampan("commit", "next", "mine:2")

    assert sampan("diff", "app").lines == ["C /etc", "D /etc/group", "A /etc/new", "C /home", "D /home/user"]
    assert sampan("diff", "next").lines == ["C /etc", "D /etc/passwd"]
    look = "ls -A /home; cd /etc; ls -d group passwd new hostname; true"
    shown = sampan("run", "--rm", "mine:2", "sh", "-c", look)
    assert shown.lines == ["hostname", "new"]


def test_what_was_written_to_memory_and_is_gone_is_missed_with_a_word(sampan: Sampan) -> None:
    sampan("create", "--name", "app", "busybox", "true")
    (there,) = sampan.root.glob("containers/*")
    upper = os.path.realpath(there / "upper")
    shutil.rmtree(upper)

    failed = sampan("start", "app", check=False)

    assert failed.code == 1
    assert f"what the container has written is gone: {upper}" in failed.err
    sampan("rm", "app")
