"""Mounts: mount(2), its newer relatives (open_tree, move_mount, mount_setattr, fsopen) and /proc/PID/mountinfo."""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_ulong, c_void_p, sizeof
from enum import IntFlag
from typing import NamedTuple

from sampan.kernel.libc import Call, Syscall


class MS(IntFlag):
    """Flags of mount(2)."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    SYNCHRONOUS = 16
    REMOUNT = 32
    MANDLOCK = 64
    DIRSYNC = 128
    NOSYMFOLLOW = 256
    NOATIME = 1024
    NODIRATIME = 2048
    BIND = 4096
    MOVE = 8192
    REC = 16384
    SILENT = 32768
    POSIXACL = 1 << 16
    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20
    RELATIME = 1 << 21
    I_VERSION = 1 << 23
    STRICTATIME = 1 << 24
    LAZYTIME = 1 << 25


class MNT(IntFlag):
    """Flags of umount2(2); UMOUNT_NOFOLLOW is among them."""

    FORCE = 1
    DETACH = 2
    EXPIRE = 4
    NOFOLLOW = 8


class AT(IntFlag):
    """Flags of calls that take a directory's descriptor and a path; openat(2)."""

    SYMLINK_NOFOLLOW = 0x100
    NO_AUTOMOUNT = 0x800
    EMPTY_PATH = 0x1000
    RECURSIVE = 0x8000


AT_FDCWD = -100


class OPEN_TREE(IntFlag):  # noqa: N801
    """Flags of open_tree(2), beside those of `AT`."""

    CLONE = 1
    CLOEXEC = os.O_CLOEXEC


class MOVE_MOUNT(IntFlag):  # noqa: N801
    """Flags of move_mount(2)."""

    F_SYMLINKS = 0x1
    F_AUTOMOUNTS = 0x2
    F_EMPTY_PATH = 0x4
    T_SYMLINKS = 0x10
    T_AUTOMOUNTS = 0x20
    T_EMPTY_PATH = 0x40
    SET_GROUP = 0x100
    BENEATH = 0x200


class MOUNT_ATTR(IntFlag):  # noqa: N801
    """Attributes of mount_setattr(2) and fsmount(2). RELATIME is 0: to set it, clear `ATIME`."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    NOATIME = 0x10
    STRICTATIME = 0x20
    ATIME = 0x70
    NODIRATIME = 0x80
    IDMAP = 0x100000
    NOSYMFOLLOW = 0x200000


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


_mount = Call("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = Call("umount2", c_char_p, c_int)
_pivot_root = Syscall("pivot_root", c_char_p, c_char_p)


def mount(source: str | None, target: str, fstype: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Attach a filesystem, or change one (REMOUNT, BIND, MOVE, a propagation), by flags of `MS`."""
    _mount(_encoded(source), os.fsencode(target), _encoded(fstype), flags, _encoded(data), path=target)


def umount(target: str, *, detach: bool = False, nofollow: bool = False) -> None:
    """Detach the filesystem at `target`; `detach` is MNT_DETACH, `nofollow` UMOUNT_NOFOLLOW of umount2(2)."""
    _umount2(os.fsencode(target), detach * MNT.DETACH | nofollow * MNT.NOFOLLOW, path=target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make the mount `new_root` the root and put the old one at `put_old`; "." for both stacks them."""
    _pivot_root(os.fsencode(new_root), os.fsencode(put_old), path=new_root)


# -------------------------------------------------------------------------------------- trees of mounts as descriptors


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


_open_tree = Syscall("open_tree", c_int, c_char_p, c_uint)
_move_mount = Syscall("move_mount", c_int, c_char_p, c_int, c_char_p, c_uint)
_mount_setattr = Syscall("mount_setattr", c_int, c_char_p, c_uint, c_void_p, c_size_t)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """Open a mount, or a detached copy of it (OPEN_TREE.CLONE), close-on-exec; flags of `OPEN_TREE` and `AT`."""
    return _open_tree(dirfd, os.fsencode(path), flags | os.O_CLOEXEC, path=path)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int = 0) -> None:
    """Attach the mount at the first place to the second; "" with F_EMPTY_PATH, T_EMPTY_PATH: the descriptor."""
    _move_mount(from_fd, os.fsencode(from_path), to_fd, os.fsencode(to_path), flags, path=to_path or from_path or None)


def mount_setattr(
    fd: int,
    path: str,
    flags: int = 0,
    *,
    set: int = 0,
    clear: int = 0,
    propagation: int = 0,
    userns_fd: int | None = None,
) -> None:
    """Change attributes of a mount, with AT.RECURSIVE of all below it; `propagation` is one of MS; Linux 5.12."""
    attributes = _MountAttr(attr_set=set, attr_clr=clear, propagation=propagation, userns_fd=userns_fd or 0)
    _mount_setattr(fd, os.fsencode(path), flags, byref(attributes), sizeof(attributes), path=path or None)


# ------------------------------------------------------------------------------------------- a filesystem step by step

_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_SET_FD = 5
_FSCONFIG_CMD_CREATE = 6

_fsopen = Syscall("fsopen", c_char_p, c_uint)
_fsconfig = Syscall("fsconfig", c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = Syscall("fsmount", c_int, c_uint, c_uint)


def fsopen(fstype: str) -> int:
    """Begin a new filesystem of a type; the descriptor takes its configuration."""
    return _fsopen(os.fsencode(fstype), _FSOPEN_CLOEXEC, path=fstype)


def fsconfig_string(fd: int, key: str, value: str) -> None:
    """Set `key=value`."""
    _fsconfig(fd, _FSCONFIG_SET_STRING, os.fsencode(key), os.fsencode(value), 0, path=f"{key}={value}")


def fsconfig_flag(fd: int, key: str) -> None:
    """Set an option that has no value."""
    _fsconfig(fd, _FSCONFIG_SET_FLAG, os.fsencode(key), None, 0, path=key)


def fsconfig_fd(fd: int, key: str, value_fd: int) -> None:
    """Set an option whose value is an open file; overlay's layers since Linux 6.13."""
    _fsconfig(fd, _FSCONFIG_SET_FD, os.fsencode(key), None, value_fd, path=key)


def fsconfig_create(fd: int) -> None:
    """Make the filesystem's superblock of what was configured."""
    _fsconfig(fd, _FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(fd: int, attributes: int = 0) -> int:
    """Return a detached mount of the filesystem, for `move_mount`; `attributes` of MOUNT_ATTR."""
    return _fsmount(fd, _FSMOUNT_CLOEXEC, attributes)


def fs_messages(fd: int) -> list[str]:
    """Read what the kernel said about a configuration, for example `e overlay: …`; fsopen(2) says it is a queue."""
    messages = []
    while True:
        try:
            messages.append(os.read(fd, 4096).decode(errors="replace").rstrip())
        except OSError as e:
            if e.errno in {errno.ENODATA, errno.EINVAL}:
                return messages
            raise


# ------------------------------------------------------------------------------------------------------------ mountinfo


class MountInfo(NamedTuple):
    """One line of /proc/PID/mountinfo; proc_pid_mountinfo(5)."""

    mount_id: int
    parent_id: int
    device: tuple[int, int]
    root: str
    mount_point: str
    options: tuple[str, ...]
    propagation: tuple[str, ...]  # "shared:1", "master:2", …; empty: private
    fstype: str
    source: str
    super_options: tuple[str, ...]


_ESCAPES = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\043": "#", r"\134": "\\"}


def _unescaped(field: str) -> str:
    """Undo the kernel's octal escapes, which it writes for blank, tab, newline, # and backslash."""
    if "\\" not in field:
        return field
    parts = field.split("\\")
    return parts[0] + "".join(_ESCAPES.get("\\" + p[:3], "\\" + p[:3]) + p[3:] for p in parts[1:])


def parse_mountinfo(text: str) -> list[MountInfo]:
    """Parse the text of a mountinfo file, in its order: a later mount at a place covers an earlier one."""
    found = []
    for line in text.split("\n"):
        if not line:
            continue
        left, _, right = line.partition(" - ")
        mount_id, parent_id, device, root, mount_point, options, *propagation = left.split(" ")
        fstype, source, super_options = [*right.split(" "), ""][:3]
        major, _, minor = device.partition(":")
        found.append(
            MountInfo(
                int(mount_id),
                int(parent_id),
                (int(major), int(minor)),
                _unescaped(root),
                _unescaped(mount_point),
                tuple(options.split(",")),
                tuple(propagation),
                _unescaped(fstype),
                _unescaped(source),
                tuple(_unescaped(o) for o in super_options.split(",")),
            )
        )
    return found


def mountinfo(pid: int | str = "self") -> list[MountInfo]:
    """List the mounts that a process sees."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        return parse_mountinfo(os.fsdecode(file.read()))
