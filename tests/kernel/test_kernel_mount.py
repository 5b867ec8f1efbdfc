"""Mounts, by the old calls and the new ones, each in a mount namespace that ends with its test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.errors import SyscallError
from sampan.kernel import mount
from sampan.kernel.mount import AT, AT_FDCWD, MOUNT_ATTR, MOVE_MOUNT, MS, OPEN_TREE
from support.child import in_child


def at(path: Path | str) -> mount.MountInfo | None:
    return next((m for m in reversed(mount.mountinfo()) if m.mount_point == str(path)), None)


def test_a_filesystem_is_attached_changed_and_detached(tmp_path: Path) -> None:
    def story():
        mount.mount("none", str(tmp_path), "tmpfs", MS.NOSUID, "size=64k,mode=711")
        first = at(tmp_path)
        mount.mount(None, str(tmp_path), None, MS.REMOUNT | MS.BIND | MS.RDONLY)
        second = at(tmp_path)
        mount.umount(str(tmp_path))
        return first, second, at(tmp_path)

    first, second, third = in_child(story)

    assert first.fstype == "tmpfs"
    assert {"rw", "nosuid"} <= set(first.options)
    assert {"size=64k", "mode=711"} <= set(first.super_options)
    assert "ro" in second.options
    assert third is None


def test_a_refused_mount_says_where(tmp_path: Path) -> None:
    with pytest.raises(SyscallError, match=f"mount {tmp_path}: no such device"):
        mount.mount("none", str(tmp_path), "no-such-filesystem")
    with pytest.raises(SyscallError, match=f"umount2 {tmp_path}/gone: no such file"):
        mount.umount(f"{tmp_path}/gone")


def test_umount_can_refuse_to_follow_a_link(tmp_path: Path) -> None:
    def story():
        (tmp_path / "there").mkdir()
        (tmp_path / "link").symlink_to("there")
        mount.mount("none", str(tmp_path / "there"), "tmpfs")
        with pytest.raises(SyscallError):
            mount.umount(str(tmp_path / "link"), nofollow=True)
        return at(tmp_path / "there")

    assert in_child(story)


def test_pivot_root_replaces_the_root(tmp_path: Path) -> None:
    def story():
        mount.mount("none", str(tmp_path), "tmpfs")
        (tmp_path / "marker").touch()
        os.chdir(tmp_path)
        mount.pivot_root(".", ".")
        mount.umount(".", detach=True)
        return os.listdir("/")

    assert in_child(story) == ["marker"]


def test_a_tree_travels_as_a_descriptor(tmp_path: Path) -> None:
    def story():
        source, target = tmp_path / "source", tmp_path / "target"
        source.mkdir()
        target.mkdir()
        (source / "file").touch()
        fd = mount.open_tree(AT_FDCWD, str(source), OPEN_TREE.CLONE | AT.RECURSIVE)
        mount.mount_setattr(fd, "", AT.EMPTY_PATH | AT.RECURSIVE, set=MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOEXEC)
        to = os.open(target, os.O_PATH | os.O_DIRECTORY)
        mount.move_mount(fd, "", to, "", MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH)
        return os.listdir(target), at(target).options, os.get_inheritable(fd)

    names, options, inheritable = in_child(story)

    assert names == ["file"]
    assert {"ro", "noexec"} <= set(options)
    assert not inheritable


def test_mount_setattr_changes_the_propagation_of_everything_below(tmp_path: Path) -> None:
    def story():
        mount.mount("none", str(tmp_path), "tmpfs")
        (tmp_path / "below").mkdir()
        mount.mount("none", str(tmp_path / "below"), "tmpfs")
        mount.mount_setattr(AT_FDCWD, str(tmp_path), AT.RECURSIVE, propagation=MS.SHARED)
        return at(tmp_path).propagation, at(tmp_path / "below").propagation

    assert all(p and p[0].startswith("shared:") for p in in_child(story))


def test_mount_setattr_can_turn_access_times_back_on(tmp_path: Path) -> None:
    def story():
        mount.mount("none", str(tmp_path), "tmpfs", MS.NOATIME)
        mount.mount_setattr(AT_FDCWD, str(tmp_path), set=0, clear=MOUNT_ATTR.ATIME)
        return at(tmp_path).options

    assert "relatime" in in_child(story)


def test_an_overlay_is_made_step_by_step(tmp_path: Path) -> None:
    def story():
        mount.mount("none", str(tmp_path), "tmpfs")
        for name in ("one", "two", "upper", "work", "merged"):
            (tmp_path / name).mkdir()
        (tmp_path / "one/file").write_text("one")
        (tmp_path / "two/file").write_text("two")
        fd = mount.fsopen("overlay")
        mount.fsconfig_string(fd, "lowerdir+", str(tmp_path / "two"))
        mount.fsconfig_string(fd, "lowerdir+", str(tmp_path / "one"))
        mount.fsconfig_string(fd, "upperdir", str(tmp_path / "upper"))
        mount.fsconfig_string(fd, "workdir", str(tmp_path / "work"))
        mount.fsconfig_create(fd)
        merged = mount.fsmount(fd, MOUNT_ATTR.NODEV)
        mount.move_mount(merged, "", AT_FDCWD, str(tmp_path / "merged"), MOVE_MOUNT.F_EMPTY_PATH)
        text = (tmp_path / "merged/file").read_text()
        (tmp_path / "merged/new").touch()
        return text, os.listdir(tmp_path / "upper"), at(tmp_path / "merged").options

    text, upper, options = in_child(story)

    assert (text, upper) == ("two", ["new"])
    assert "nodev" in options


def test_a_refused_option_is_explained_by_the_kernel() -> None:
    fd = mount.fsopen("tmpfs")
    with pytest.raises(SyscallError, match="fsconfig colour=red: invalid argument"):
        mount.fsconfig_string(fd, "colour", "red")

    assert mount.fs_messages(fd) == ["e tmpfs: Unknown parameter 'colour'"]
    assert mount.fs_messages(fd) == []
    os.close(fd)


def test_mountinfo_reads_names_with_blanks(tmp_path: Path) -> None:
    odd = tmp_path / "a b\tc\nd\\e#"

    def story():
        odd.mkdir()
        mount.mount("none", str(odd), "tmpfs")
        return at(odd)

    assert in_child(story).mount_point == str(odd)
