"""Processes: pidfds, prctl(2), names, exec by descriptor, start times."""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_size_t, c_uint, c_uint32, c_uint64, c_ulong, c_void_p
from typing import TYPE_CHECKING

from sampan.errors import SyscallError
from sampan.kernel.libc import Call, Syscall, ioctl_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_pidfd_open = Syscall("pidfd_open", c_int, c_uint)
_pidfd_send_signal = Syscall("pidfd_send_signal", c_int, c_int, c_void_p, c_uint)
_pidfd_getfd = Syscall("pidfd_getfd", c_int, c_int, c_uint)
_ioctl = Call("ioctl", c_int, c_ulong, c_void_p)


def pidfd_open(pid: int) -> int:
    """Open a process: a descriptor that polls readable when it has ended, and never means another process."""
    return _pidfd_open(pid, 0, path=f"pid {pid}")


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """Send a signal to the process that a pidfd is."""
    _pidfd_send_signal(pidfd, signal, None, 0)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """Duplicate another process's descriptor `fd` into this one; Linux 5.6."""
    return _pidfd_getfd(pidfd, fd, 0)


def pidfd_pid(pidfd: int) -> int:
    """Return the number that this /proc has for the process; -1 once it was reaped. proc_pid_fdinfo(5)."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb", buffering=0) as file:
        return next(int(line[4:]) for line in file.read().split(b"\n") if line.startswith(b"Pid:"))


class _PidfdInfo(ctypes.Structure):
    _fields_ = [
        ("mask", c_uint64),
        ("cgroupid", c_uint64),
        *((name, c_uint32) for name in (
            "pid", "tgid", "ppid", "ruid", "rgid", "euid", "egid", "suid", "sgid", "fsuid", "fsgid",
        )),
        ("exit_code", c_int32),
    ]  # fmt: skip


_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_GET_INFO = ioctl_number("rw", 0xFF, 11, ctypes.sizeof(_PidfdInfo))


def pidfd_exit_status(pidfd: int) -> int | None:
    """Return the wait status (for `os.waitstatus_to_exitcode`) of a process that has ended and was reaped by anybody.

    None while it is there or unreaped, and where the kernel can't say (PIDFD_INFO_EXIT, Linux 6.15).
    """
    info = _PidfdInfo(mask=_PIDFD_INFO_EXIT)
    try:
        _ioctl(pidfd, _PIDFD_GET_INFO, byref(info))
    except SyscallError as e:
        if e.errno in {errno.ENOTTY, errno.EINVAL, errno.ESRCH}:
            return None
        raise
    return int(info.exit_code) if info.mask & _PIDFD_INFO_EXIT else None


# ------------------------------------------------------------------------------------------------------------- signals

_rt_sigaction = Syscall("rt_sigaction", c_int, c_char_p, c_void_p, c_ulong)

_DEFAULT_ACTION = bytes(64)  # no handler, no flags, an empty mask; as large as the structure is anywhere
_SIGNAL_SET_BYTES = 8


LIBC_SIGNALS = (32, 33)
"""What glibc keeps for itself: signal(2) refuses them, and posix_spawn(3) may hand them on ignored."""


def reset_signal(number: int) -> None:
    """Set a signal's action to the default, also for the two that libc keeps for itself and refuses; sigaction(2)."""
    _rt_sigaction(number, _DEFAULT_ACTION, None, _SIGNAL_SET_BYTES, path=f"signal {number}")


# --------------------------------------------------------------------------------------------------------------- prctl

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_prctl = Call("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_prctl_string = Call("prctl", c_int, c_char_p, c_ulong, c_ulong, c_ulong)


def set_dumpable(dumpable: bool) -> None:
    """Allow or forbid core dumps of, and ptrace and /proc/PID access to, this process; PR_SET_DUMPABLE."""
    _prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0)


def get_dumpable() -> int:
    """Return 0 (no), 1 (yes) or 2 (by root only); PR_GET_DUMPABLE."""
    return _prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)


def set_no_new_privs() -> None:
    """Let no exec of this process or its children gain privileges, ever; PR_SET_NO_NEW_PRIVS."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def set_child_subreaper(enabled: bool = True) -> None:
    """Become the parent of descendants whose own parent dies; PR_SET_CHILD_SUBREAPER."""
    _prctl(PR_SET_CHILD_SUBREAPER, enabled, 0, 0, 0)


def set_parent_death_signal(signal: int) -> None:
    """Ask for a signal when the parent's thread ends; 0 takes it back; PR_SET_PDEATHSIG."""
    _prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)


def set_keepcaps(enabled: bool) -> None:
    """Keep the permitted capabilities over a change of user id from 0; PR_SET_KEEPCAPS."""
    _prctl(PR_SET_KEEPCAPS, enabled, 0, 0, 0)


def set_name(name: str) -> None:
    """Set the thread's name as ps and /proc/PID/comm show it, cut to 15 bytes; PR_SET_NAME."""
    _prctl_string(PR_SET_NAME, os.fsencode(name)[:15], 0, 0, 0)


# ------------------------------------------------------------------------------------------------------ names, exec, …

_sethostname = Call("sethostname", c_char_p, c_size_t)
_setdomainname = Call("setdomainname", c_char_p, c_size_t)
_personality = Call("personality", c_ulong)
_execveat = Syscall("execveat", c_int, c_char_p, POINTER(c_char_p), POINTER(c_char_p), c_int)
_ioprio_set = Syscall("ioprio_set", c_int, c_int, c_int)
_ioprio_get = Syscall("ioprio_get", c_int, c_int)

_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13


def sethostname(name: str) -> None:
    """Set the host name of this uts namespace."""
    encoded = os.fsencode(name)
    _sethostname(encoded, len(encoded), path=name)


def setdomainname(name: str) -> None:
    """Set the NIS domain name of this uts namespace."""
    encoded = os.fsencode(name)
    _setdomainname(encoded, len(encoded), path=name)


def personality(persona: int) -> int:
    """Set the execution domain and return the previous one; 0xffffffff only asks."""
    return _personality(persona)


def execveat(dirfd: int, path: str, argv: Sequence[str], env: Mapping[str, str], flags: int = 0) -> None:
    """Execute the file at `path` in `dirfd`, or `dirfd` itself ("" and AT.EMPTY_PATH). Returns only by raising."""
    _execveat(
        dirfd, os.fsencode(path), _strings(argv), _strings([f"{k}={v}" for k, v in env.items()]), flags, path=path
    )


def _strings(strings: Sequence[str]) -> ctypes.Array[c_char_p]:
    return (c_char_p * (len(strings) + 1))(*[os.fsencode(s) for s in strings], None)


def ioprio_set(pid: int, class_: int, level: int) -> None:
    """Set the I/O scheduling class (1 real-time, 2 best effort, 3 idle) and level (0…7) of a process; 0 is this one."""
    _ioprio_set(_IOPRIO_WHO_PROCESS, pid, class_ << _IOPRIO_CLASS_SHIFT | level)


def ioprio_get(pid: int) -> tuple[int, int]:
    """Return the I/O scheduling class and level of a process."""
    value = _ioprio_get(_IOPRIO_WHO_PROCESS, pid)
    return value >> _IOPRIO_CLASS_SHIFT, value & ((1 << _IOPRIO_CLASS_SHIFT) - 1)


def start_time(pid: int) -> int:
    """Return when a process began, in clock ticks since boot: with the pid, a name never used again; proc(5)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return parse_start_time(file.read())


def parse_start_time(stat: bytes) -> int:
    """Find field 22 of /proc/PID/stat; the name in field 2 may hold blanks and parentheses."""
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


_malloc_trim = Call("malloc_trim", c_size_t)


_PF_EXITING = 0x4  # include/linux/sched.h


def is_ending(pid: int, started: int) -> bool:
    """Whether the process that began at `started` is gone, or past its last instruction; proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return parse_start_time(stat) != started or bool(int(stat.rpartition(b")")[2].split()[6]) & _PF_EXITING)


def trim_memory() -> None:
    """Give freed memory back to the kernel, where this libc can (glibc, malloc_trim(3); musl has none)."""
    try:
        _malloc_trim(0)
    except OSError:
        pass


_M_ARENA_MAX = -8
_mallopt = Call("mallopt", c_int, c_int)


def share_one_heap() -> None:
    """Have all threads allocate from one heap: glibc, mallopt(3), M_ARENA_MAX; to be called before there is another.

    A heap for each of many threads that come and go is full of holes of which the others make no use.
    """
    try:
        _mallopt(_M_ARENA_MAX, 1)
    except OSError:  # another libc
        pass
