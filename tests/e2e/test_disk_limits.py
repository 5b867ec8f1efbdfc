"""`--storage-opt size=…`: what a container may write if the filesystem keeps count, and the reason if it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.kernel import quota
from support.sampan import Sampan, new_root, wait_until


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Iterator[Sampan]:
    """Yield an instance whose store is on an ext4 that has project quotas."""
    image = tmp_path_factory.mktemp("ext4") / "image"
    root = new_root()
    with image.open("wb") as file:
        file.truncate(256 << 20)
    made = ["mkfs.ext4", "-q", "-O", "project,quota", "-E", "quotatype=prjquota", image]
    subprocess.run(made, check=True)
    mounted = subprocess.run(["mount", "-o", "loop,prjquota", image, root], check=False, capture_output=True)
    if mounted.returncode:
        shutil.rmtree(root)
        pytest.skip("missing kernel feature: quotas of ext4 (CONFIG_QFMT_V2)")
    sampan = Sampan(root)
    try:
        sampan("import", busybox_tar, "busybox", timeout=300)
        yield sampan
    finally:
        sampan("system", "stop", check=False)
        subprocess.run(["umount", "-l", root], check=True)  # the keeper is just ending
        sampan.end()


def test_a_container_writes_as_much_as_it_may_and_no_more(counted: Sampan) -> None:
    script = "dd if=/dev/zero of=/file bs=1M count=40 2>&1; stat -c %s /file"
    arguments = ("--network", "none", "--storage-opt")
    counted("run", "--name", "small", *arguments, "size=16m", "busybox", "sh", "-c", script, check=False)

    said = counted("logs", "small").out
    assert "No space left on device" in said or "Disk quota exceeded" in said
    assert 15 << 20 <= int(said.splitlines()[-1]) <= 16 << 20
    larger = counted("run", "--rm", *arguments, "size=100m", "busybox", "sh", "-c", script)
    assert larger.lines[-1] == "41943040"
    assert counted("start", "-a", "small", check=False).lines[-1] == said.splitlines()[-1]
    counted("rm", "small")


def test_the_limit_goes_with_the_container(counted: Sampan) -> None:
    counted("create", "--name", "limited", "--storage-opt", "size=16m", "busybox", "true")
    root = os.open(counted.root, os.O_RDONLY)
    upper = os.open(counted.inspect("limited")["GraphDriver"]["Data"]["UpperDir"], os.O_RDONLY)
    try:
        number = quota.project(upper)
        before = quota.quota(root, number)
        counted("rm", "limited")
        assert before.limit_bytes == 16 << 20
        wait_until(lambda: quota.quota(root, number).limit_bytes == 0)  # it goes with the files, behind the answer
    finally:
        os.close(upper)
        os.close(root)


def test_a_volume_holds_as_much_as_it_may(counted: Sampan) -> None:
    counted("volume", "create", "-o", "size=8m", "small")
    write = ("busybox", "sh", "-c", "dd if=/dev/zero of=/d/file bs=1M count=20 2>/dev/null; stat -c %s /d/file")

    for volume in (("-v", "small:/d"), ("--mount", "type=volume,dst=/d,src=other,volume-opt=size=8m")):
        written = int(counted("run", "--rm", "--network", "none", *volume, *write).line)
        assert 7 << 20 <= written <= 8 << 20
    counted("volume", "rm", "small", "other")


def test_where_nothing_keeps_count_it_is_refused_with_the_reason(sampan: Sampan) -> None:
    refused = sampan("run", "--rm", "--storage-opt", "size=1g", "busybox", "true", check=False)

    assert refused.code == 125
    assert "--storage-opt is supported only for overlay over xfs with 'pquota' mount option" in refused.err
    assert sampan("ps", "-aq").out == ""


@pytest.mark.parametrize(
    ("option", "message"),
    [("what=1", "unknown option what"), ("size=x", "invalid size: 'x'"), ("size=0", "invalid size: '0'")],
)
def test_what_is_no_limit_is_refused(sampan: Sampan, option: str, message: str) -> None:
    refused = sampan("run", "--rm", "--storage-opt", option, "busybox", "true", check=False)

    assert refused.code == 125
    assert message in refused.err
