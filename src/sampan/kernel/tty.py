"""Pseudo-terminals: a new pair in a given devpts, the window's size, the controlling terminal; pty(7), ioctl_tty(2)."""

from __future__ import annotations

import os
import termios
from ctypes import Structure, byref, c_int, c_ulong, c_ushort, c_void_p

from sampan.kernel.libc import Call, ioctl_number

TIOCSPTLCK = ioctl_number("w", ord("T"), 0x31, 4)
TIOCGPTN = ioctl_number("r", ord("T"), 0x30, 4)
TIOCGPTPEER = ioctl_number("", ord("T"), 0x41, 0)

_ioctl = Call("ioctl", c_int, c_ulong, c_void_p)
_ioctl_number = Call("ioctl", c_int, c_ulong, c_ulong)


class _WindowSize(Structure):
    _fields_ = [("rows", c_ushort), ("columns", c_ushort), ("x_pixels", c_ushort), ("y_pixels", c_ushort)]


def open_ptmx(devpts_fd: int) -> tuple[int, str]:
    """Make a pair in the devpts instance that `devpts_fd` is the directory of: (master, "/dev/pts/N")."""
    master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=devpts_fd)
    try:
        unlocked, number = c_int(0), c_int()
        _ioctl(master, TIOCSPTLCK, byref(unlocked), path="ptmx")
        _ioctl(master, TIOCGPTN, byref(number), path="ptmx")
    except BaseException:
        os.close(master)
        raise
    return master, f"/dev/pts/{number.value}"


def open_peer(master: int) -> int:
    """Open the other side of a pair by its master, whatever is mounted at /dev/pts; TIOCGPTPEER, Linux 4.13."""
    return _ioctl_number(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def set_controlling(fd: int) -> None:
    """Make a terminal the controlling one of this session, whose leader this process must be."""
    _ioctl_number(fd, termios.TIOCSCTTY, 0)


def get_size(fd: int) -> tuple[int, int]:
    """Return a terminal's (rows, columns)."""
    size = _WindowSize()
    _ioctl(fd, termios.TIOCGWINSZ, byref(size))
    return size.rows, size.columns


def set_size(fd: int, rows: int, columns: int) -> None:
    """Set a terminal's size; its foreground processes get SIGWINCH."""
    _ioctl(fd, termios.TIOCSWINSZ, byref(_WindowSize(rows, columns, 0, 0)))
