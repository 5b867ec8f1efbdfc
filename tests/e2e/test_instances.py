"""SAMPAN_ROOT: a second, wholly separate instance."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sampan import PROGRAM, Sampan, groups_named, new_root, wait_until


@pytest.fixture
def second() -> Iterator[Sampan]:
    sampan = Sampan(new_root())
    yield sampan
    sampan.end()


def test_two_instances_share_nothing(shared: Sampan, second: Sampan, busybox_tar) -> None:
    shared("run", "-d", "--name", "web", "busybox", "sleep", "100")

    assert second("ps", "-aq").out == ""
    assert "busybox" not in second("images").out
    second("import", busybox_tar, "busybox")
    second("run", "-d", "--name", "web", "busybox", "sleep", "100")

    assert shared.info("ServerPid") != second.info("ServerPid")
    assert shared.instance != second.instance
    assert not set(shared.cgroups()) & set(second.cgroups())
    second("rm", "-f", "web")
    assert shared("ps", "--format", "{{.Names}}").lines == ["web"]
    shared("rm", "-f", "web")


def test_the_root_flag_is_the_same_as_the_variable(shared: Sampan, second: Sampan) -> None:
    said = second("--root", shared.root, "info", "--format", "{{.DockerRootDir}}")

    assert said.line == str(shared.root)


def test_one_that_ends_takes_nothing_of_the_other_along(shared: Sampan, second: Sampan, busybox_tar) -> None:
    shared("run", "-d", "--name", "web", "busybox", "sleep", "100")
    second("import", busybox_tar, "busybox")
    second("run", "--rm", "busybox", "true")
    second.end()

    assert shared("exec", "web", "echo", "here").line == "here"
    shared("rm", "-f", "web")


def test_an_instance_whose_root_was_removed_ends_when_told_to(second: Sampan) -> None:
    keeper, instance = second.info("KeeperPid"), second.instance
    shutil.rmtree(second.root)
    os.kill(keeper, signal.SIGTERM)

    wait_until(lambda: not second.ours(), what="all its processes have ended")
    assert groups_named(f"sampan-{instance}") == []


def test_a_root_with_a_path_too_long_for_a_socket_works(busybox_tar, tmp_path) -> None:
    root = tmp_path / ("d" * 90)
    root.mkdir()
    sampan = Sampan(root)
    try:
        sampan("import", busybox_tar, "busybox")
        assert sampan("run", "--rm", "busybox", "echo", "long").line == "long"
    finally:
        socket = sampan("system", "socket").line.removeprefix("unix://")
        sampan("rm", "-f", *sampan("ps", "-aq").lines, check=False)
        sampan.end()
    wait_until(lambda: not sampan.ours())
    shutil.rmtree(os.path.dirname(socket))  # which is not below the root
    assert len(socket) < 108


def test_containers_start_where_the_loopback_interface_is_down(instance: Sampan, busybox_tar: Path) -> None:
    words = ["unshare", "-n", PROGRAM, "import", str(busybox_tar), "busybox"]
    subprocess.run(words, env=instance.env, check=True, capture_output=True)

    assert instance("run", "--rm", "--network", "none", "busybox", "echo", "works").line == "works"
