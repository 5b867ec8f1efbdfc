"""Project quotas: how much the files of a project may take on their filesystem; quotactl(2), ioctl_xfs_fsgetxattr(2).

A directory has a project, 0 for none, and what is made in it inherits that. ext4 and xfs count them where they are
mounted so.
"""

from __future__ import annotations

import fcntl
import struct
from ctypes import c_char_p, c_uint, create_string_buffer
from typing import NamedTuple

from sampan.kernel.libc import Syscall, ioctl_number

_FSXATTR = struct.Struct("=5I8x")
_GET_XATTR = ioctl_number("r", ord("X"), 31, _FSXATTR.size)
_SET_XATTR = ioctl_number("w", ord("X"), 32, _FSXATTR.size)
_INHERIT = 0x200  # FS_XFLAG_PROJINHERIT
_DQBLK = struct.Struct("=8QI4x")
_GET_QUOTA, _SET_QUOTA, _PROJECTS = 0x800007, 0x800008, 2
_LIMITS_OF_SPACE = 1  # QIF_BLIMITS
_UNIT = 1024

_quotactl_fd = Syscall("quotactl_fd", c_uint, c_uint, c_uint, c_char_p)


class Quota(NamedTuple):
    """What a project's files take, and may take; 0: any amount."""

    used_bytes: int
    limit_bytes: int


def project(fd: int) -> int:
    """Return the project of an open file."""
    number: int = _FSXATTR.unpack(fcntl.ioctl(fd, _GET_XATTR, bytes(_FSXATTR.size)))[3]
    return number


def set_project(fd: int, number: int) -> None:
    """Put an open directory, and what will be made in it, into a project."""
    flags, size, count, _, copied = _FSXATTR.unpack(fcntl.ioctl(fd, _GET_XATTR, bytes(_FSXATTR.size)))
    fcntl.ioctl(fd, _SET_XATTR, _FSXATTR.pack(flags | _INHERIT, size, count, number, copied))


def quota(fd: int, number: int) -> Quota:
    """Return a project's quota on the filesystem of an open file."""
    found = create_string_buffer(_DQBLK.size)
    _quotactl_fd(fd, _command(_GET_QUOTA), number, found)
    hard, _, used, *_ = _DQBLK.unpack(found.raw)
    return Quota(used_bytes=used, limit_bytes=hard * _UNIT)


def limit(fd: int, number: int, limit_bytes: int) -> None:
    """Let a project's files take so many bytes on the filesystem of an open file; 0: any amount. Linux 5.14."""
    blocks = -(-limit_bytes // _UNIT)
    _quotactl_fd(fd, _command(_SET_QUOTA), number, _DQBLK.pack(blocks, blocks, 0, 0, 0, 0, 0, 0, _LIMITS_OF_SPACE))


def _command(number: int) -> int:
    return number << 8 | _PROJECTS
