"""Paths inside a root that somebody else controls."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sampan.errors import SyscallError
from sampan.kernel import path
from sampan.kernel.path import RESOLVE


@pytest.fixture
def root(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("outside")
    inside = tmp_path / "root"
    (inside / "etc").mkdir(parents=True)
    (inside / "etc/passwd").write_text("inside")
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield inside, fd
    os.close(fd)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["outside", "root"]
    assert os.listdir(tmp_path / "outside") == ["secret"]


def read(fd: int, name: str) -> str:
    with open(path.open_in_root(fd, name, os.O_RDONLY)) as file:
        return file.read()


@pytest.mark.parametrize(
    "name",
    ["etc/passwd", "/etc/passwd", "../../etc/passwd", "/etc/../../../etc/passwd", "absolute", "up", "chain/passwd"],
)
def test_every_way_to_a_file_stays_inside(root, name: str) -> None:
    inside, fd = root
    (inside / "absolute").symlink_to("/etc/passwd")
    (inside / "up").symlink_to("../../../../etc/passwd")
    (inside / "chain").symlink_to("/first")
    (inside / "first").symlink_to("/../etc")

    assert read(fd, name) == "inside"


def test_nothing_but_a_regular_file_is_opened_to_be_read(root) -> None:
    inside, fd = root
    (inside / "to-outside").symlink_to("/../../outside/secret")
    os.mkfifo(inside / "pipe")  # to open it would take for ever

    assert path.read_in_root(fd, "etc/passwd", 3) == b"ins"
    for name in ("pipe", "etc", "to-outside", "missing"):
        assert path.read_in_root(fd, name, 3) == b""


def test_magic_links_are_not_followed() -> None:
    host = os.open("/", os.O_PATH)
    with pytest.raises(SyscallError) as e:
        path.open_in_root(host, f"/proc/self/fd/{host}/etc/passwd", os.O_RDONLY)
    os.close(host)

    assert e.value.errno == errno.ELOOP
    assert e.value.call == "openat2"


def test_the_descriptor_is_closed_on_exec(root) -> None:
    opened = path.open_in_root(root[1], "etc", os.O_PATH)

    assert not os.get_inheritable(opened)
    os.close(opened)


def test_beneath_refuses_what_in_root_would_turn_back(root) -> None:
    with pytest.raises(SyscallError, match=r"openat2 \.\./outside/secret: invalid cross-device link"):
        path.openat2(root[1], "../outside/secret", os.O_RDONLY, resolve=RESOLVE.BENEATH)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("a/b/c", "a/b/c"),
        ("/a//./b/", "a/b"),
        ("../../a", "a"),
        ("etc/new", "etc/new"),
        ("", "."),
        ("absolute/x", "not/yet/x"),
        ("relative/x", "elsewhere/x"),
        ("up/x", "gone/x"),
        ("etc/../b", "b"),
    ],
)
def test_missing_directories_are_made_inside(root, name: str, made: str) -> None:
    inside, fd = root
    (inside / "absolute").symlink_to("/not/yet")
    (inside / "relative").symlink_to("elsewhere")
    (inside / "up").symlink_to("../../../gone")
    made_fd = path.mkdirs_in_root(fd, name, 0o750)

    assert os.path.samestat(os.fstat(made_fd), os.stat(inside / made))
    os.close(made_fd)


def test_a_loop_of_links_is_an_error_not_a_hang(root) -> None:
    inside, fd = root
    (inside / "loop").symlink_to("loop")
    (inside / "growing").symlink_to("growing/x")

    for name in ("loop/x", "growing"):
        with pytest.raises(SyscallError) as e:
            path.mkdirs_in_root(fd, name)
        assert e.value.errno == errno.ELOOP


def test_a_file_in_the_way_is_named(root) -> None:
    with pytest.raises(SyscallError, match="etc/passwd"):
        path.mkdirs_in_root(root[1], "etc/passwd/x")


def test_descriptors_are_not_leaked(root) -> None:
    inside, fd = root
    (inside / "away").symlink_to("/far/away")
    before = set(os.listdir("/proc/self/fd"))
    for name in ("a/b/c/d", "away/x", "etc/passwd/x", "x/../../y"):
        try:
            os.close(path.mkdirs_in_root(fd, name))
        except OSError:
            pass

    assert set(os.listdir("/proc/self/fd")) <= before
