"""Watching a directory; inotify(7)."""

from __future__ import annotations

import enum
import os
from ctypes import c_char_p, c_int, c_uint32

from sampan.kernel.libc import Call

_init = Call("inotify_init1", c_int)
_add_watch = Call("inotify_add_watch", c_int, c_char_p, c_uint32)


class IN(enum.IntFlag):
    """What may happen to a file in a watched directory."""

    MODIFY = 0x2
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800


def inotify_init() -> int:
    """Return a new, non-blocking inotify descriptor; reading it gives events."""
    return _init(os.O_CLOEXEC | os.O_NONBLOCK)


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """Have events of `path` come out of `fd`; return the watch's number."""
    return _add_watch(fd, os.fsencode(path), mask, path=path)
