"""Calls of libc and raw system calls through ctypes, with errno turned into `SyscallError`.

    Call("umount2", c_char_p, c_int)          a function of libc
    Syscall("openat2", c_int, c_char_p, …)    a system call that libc may lack

Both bind their symbol and argument types once. A symbol or number that this libc or architecture lacks is no error
until it is called: then it is ENOSYS, as the kernel would say.
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import c_int, c_long
from typing import TYPE_CHECKING

from sampan.errors import SyscallError

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBC = ctypes.CDLL(None, use_errno=True)

_MACHINES = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "arm": "arm",
    "i386": "i686",
    "i486": "i686",
    "i586": "i686",
    "i686": "i686",
}
_NARROW = {"x86_64": "i686", "aarch64": "arm"}


def architecture(machine: str, pointer_bytes: int = 8) -> str:
    """Name the system call table of a process: by uname's machine, a 32-bit process on a 64-bit kernel told apart."""
    name = _MACHINES.get(machine, machine)
    return _NARROW.get(name, name) if pointer_bytes == 4 else name


ARCHITECTURE = architecture(os.uname().machine, ctypes.sizeof(ctypes.c_void_p))
"""This process's own."""

# Calls that are older than the common table: a number for each architecture.
_ARCHITECTURES = ("x86_64", "aarch64", "riscv64", "ppc64le", "s390x", "arm", "i686")
_OLD: dict[str, tuple[int, ...]] = {
    "bpf": (321, 280, 280, 361, 351, 386, 357),
    "execveat": (322, 281, 281, 362, 354, 387, 358),
    "get_mempolicy": (239, 236, 236, 260, 269, 320, 275),
    "ioprio_get": (252, 31, 31, 274, 283, 315, 290),
    "ioprio_set": (251, 30, 30, 273, 282, 314, 289),
    "keyctl": (250, 219, 219, 271, 280, 311, 288),
    "pivot_root": (155, 41, 41, 203, 217, 218, 217),
    "rt_sigaction": (13, 134, 134, 173, 174, 174, 174),
    "sched_setattr": (314, 274, 274, 355, 345, 380, 351),
    "set_mempolicy": (238, 237, 237, 261, 270, 321, 276),
    "seccomp": (317, 277, 277, 358, 348, 383, 354),
}
# From 424 on a call has the same number everywhere; arch/*/entry/syscalls/syscall.tbl.
_COMMON: dict[str, int] = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}


def syscall_numbers(architecture: str) -> dict[str, int]:
    """Return the number of each system call used here; only the common ones for an architecture that is unknown."""
    if architecture not in _ARCHITECTURES:
        return dict(_COMMON)
    column = _ARCHITECTURES.index(architecture)
    return _COMMON | {name: numbers[column] for name, numbers in _OLD.items()}


SYS = syscall_numbers(ARCHITECTURE)
"""System call numbers of this architecture."""


class Call:
    """A function of libc; calling it raises `SyscallError` where the function returns -1."""

    __slots__ = ("_function", "name")

    def __init__(self, name: str, *argtypes: type, restype: type = c_int) -> None:
        self.name = name
        self._function: Callable[..., int] | None = None
        try:
            function = _LIBC[name]  # by index: a function object of our own, with its own argtypes
        except AttributeError:
            return
        function.argtypes = argtypes
        function.restype = restype
        self._function = function

    def __call__(self, *args: object, path: str | None = None) -> int:
        """Call it. `path` names, in the error, the file or object that the call was about."""
        if self._function is None:
            raise SyscallError(errno.ENOSYS, self.name, path)
        result = self._function(*args)
        if result == -1:
            raise SyscallError(ctypes.get_errno(), self.name, path)
        return result


class Syscall:
    """A system call by its number; calling it raises `SyscallError` where the kernel refuses."""

    __slots__ = ("_function", "_number", "name")

    def __init__(self, name: str, *argtypes: type) -> None:
        self.name = name
        self._number = SYS.get(name)
        self._function = _LIBC["syscall"]
        self._function.argtypes = (c_long, *argtypes)
        self._function.restype = c_long

    def __call__(self, *args: object, path: str | None = None) -> int:
        """Call it. `path` names, in the error, the file or object that the call was about."""
        if self._number is None:
            raise SyscallError(errno.ENOSYS, self.name, path)
        result: int = self._function(self._number, *args)
        if result == -1:
            raise SyscallError(ctypes.get_errno(), self.name, path)
        return result


def ioctl_number(direction: str, kind: int, number: int, size_bytes: int) -> int:
    """Compute an ioctl's request: `direction` is "", "r", "w" or "rw", as seen from the program; ioctl(2)."""
    if ARCHITECTURE == "ppc64le":  # three bits of direction there, and 13 of size
        bits = {"": 1, "r": 2, "w": 4, "rw": 6}[direction] << 29
    else:
        bits = {"": 0, "w": 1, "r": 2, "rw": 3}[direction] << 30
    return bits | size_bytes << 16 | kind << 8 | number
