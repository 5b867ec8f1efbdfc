"""The steps that keep the kernel's own files from a container: masked and read-only paths; and its sysctls."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from sampan.errors import Failed
from sampan.kernel import mount
from sampan.kernel.mount import AT, MOUNT_ATTR, MOVE_MOUNT, OPEN_TREE
from sampan.kernel.path import RESOLVE, openat2
from sampan.runtime.mounting import open_if_there

if TYPE_CHECKING:
    from sampan.runtime import ops
    from sampan.runtime.scene import Scene

_HERE = int(MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH)
_EMPTY_PATH, _RECURSIVE = int(AT.EMPTY_PATH), int(AT.RECURSIVE)
_CLONE, _RDONLY = int(OPEN_TREE.CLONE), int(MOUNT_ATTR.RDONLY)


def make_read_only(op: ops.MakeReadOnly, scene: Scene) -> None:
    """Make a mount read-only, or bind a place onto itself so."""
    at = open_if_there(scene, op.path)
    if at is None:
        return
    try:
        if op.mounted:
            mount.mount_setattr(at, "", _EMPTY_PATH, set=_RDONLY)
            return
        tree = mount.open_tree(at, "", _CLONE | _EMPTY_PATH | _RECURSIVE)
        try:
            mount.mount_setattr(tree, "", _EMPTY_PATH | _RECURSIVE, set=_RDONLY)
            mount.move_mount(tree, "", at, "", _HERE)
        finally:
            os.close(tree)
    finally:
        os.close(at)


def mask(op: ops.Mask, scene: Scene) -> None:
    """Cover a directory with an empty one, anything else with the host's /dev/null.

    Neither is taken from the container, where another container may have put something in its place. CVE-2025-31133.
    """
    at = open_if_there(scene, op.path)
    if at is None:
        return
    try:
        if stat.S_ISDIR(os.fstat(at).st_mode) and scene.empty_fd < 0:
            scene.empty_fd = _empty_directory()
            mount.move_mount(scene.empty_fd, "", at, "", _HERE)
            return
        # A copy of a mount that is attached: before Linux 6.15 a detached one can't be copied.
        source = scene.empty_fd if stat.S_ISDIR(os.fstat(at).st_mode) else _null_device(scene)
        tree = mount.open_tree(source, "", _CLONE | _EMPTY_PATH)
        try:
            # Or a chmod in the container would be one of the host's /dev/null.
            mount.mount_setattr(tree, "", _EMPTY_PATH, set=_RDONLY)
            mount.move_mount(tree, "", at, "", _HERE)
        finally:
            os.close(tree)
    finally:
        os.close(at)


def _empty_directory() -> int:
    """Make one read-only tmpfs, of which each masked directory gets a mount of its own."""
    fd = mount.fsopen("tmpfs")
    try:
        mount.fsconfig_string(fd, "source", "tmpfs")
        mount.fsconfig_string(fd, "nr_inodes", "2")
        mount.fsconfig_string(fd, "mode", "755")
        mount.fsconfig_flag(fd, "ro")
        mount.fsconfig_create(fd)
        return mount.fsmount(fd, MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC)
    finally:
        os.close(fd)


def _null_device(scene: Scene) -> int:
    """Open the host's /dev/null, having seen that it is."""
    if scene.null_fd < 0:
        scene.null_fd = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        facts = os.fstat(scene.null_fd)
        if not stat.S_ISCHR(facts.st_mode) or facts.st_rdev != os.makedev(1, 3):
            raise Failed("the host's /dev/null is not the null device")
    return scene.null_fd


def write_sysctl(op: ops.SetSysctl, scene: Scene) -> None:
    """Write through a procfs that nothing is mounted on and nobody else has seen. CVE-2025-52881."""
    if scene.proc_fd < 0:
        fd = mount.fsopen("proc")
        try:
            mount.fsconfig_create(fd)
            scene.proc_fd = mount.fsmount(fd)
        finally:
            os.close(fd)
    resolve = RESOLVE.BENEATH | RESOLVE.NO_XDEV | RESOLVE.NO_SYMLINKS
    fd = openat2(scene.proc_fd, op.file, os.O_WRONLY, resolve=resolve)
    try:
        os.write(fd, os.fsencode(op.value))
    finally:
        os.close(fd)
