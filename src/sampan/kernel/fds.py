"""File descriptors: close many, make files in memory, share blocks."""

from __future__ import annotations

import fcntl
import os
from ctypes import c_uint

from sampan.kernel.libc import Syscall, ioctl_number

CLOSE_RANGE_CLOEXEC = 4
LAST = 0xFFFFFFFF
_FICLONE = ioctl_number("w", 0x94, 9, 4)

_close_range = Syscall("close_range", c_uint, c_uint, c_uint)


def close_range(first: int, last: int = LAST, *, cloexec: bool = False) -> None:
    """Close the descriptors from `first` to `last`, or only mark them close-on-exec (Linux 5.11)."""
    _close_range(first, last, CLOSE_RANGE_CLOEXEC if cloexec else 0)


def clone_file(target: int, source: int) -> None:
    """Have the file `target` share all blocks of `source`, where their filesystem can; ioctl_ficlone(2)."""
    fcntl.ioctl(target, _FICLONE, source)


def memfd(name: str, content: bytes, *, executable: bool = False) -> int:
    """Return a file in memory that holds `content`, read from its start, and that nobody can change any more."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    if executable and hasattr(os, "MFD_EXEC"):
        flags |= os.MFD_EXEC
    fd = os.memfd_create(name, flags)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(fd)
        raise
    return fd
