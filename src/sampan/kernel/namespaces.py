"""Namespaces: a child in new ones (clone3), this process in new ones (unshare) or in another's (setns)."""

from __future__ import annotations

import ctypes
import errno
import signal
from ctypes import byref, c_int, c_size_t, c_uint64, c_void_p, sizeof
from enum import IntFlag

from sampan.errors import SyscallError
from sampan.kernel.libc import SYS, Call


class CLONE(IntFlag):
    """Flags of clone(2), unshare(2) and setns(2)."""

    NEWTIME = 0x80  # for unshare: a child cloned with it is inside at once, and its clocks can't be set any more
    FS = 0x200  # for unshare: root, working directory and umask of this thread alone
    PIDFD = 0x1000
    PARENT = 0x8000
    NEWNS = 0x20000
    NEWCGROUP = 0x2000000
    NEWUTS = 0x4000000
    NEWIPC = 0x8000000
    NEWUSER = 0x10000000
    NEWPID = 0x20000000
    NEWNET = 0x40000000
    INTO_CGROUP = 0x200000000


FLAG_BY_NAME = {
    "cgroup": CLONE.NEWCGROUP,
    "ipc": CLONE.NEWIPC,
    "mnt": CLONE.NEWNS,
    "net": CLONE.NEWNET,
    "pid": CLONE.NEWPID,
    "time": CLONE.NEWTIME,
    "user": CLONE.NEWUSER,
    "uts": CLONE.NEWUTS,
}
"""The flag of each kind of namespace, by its name in /proc/PID/ns."""


class _CloneArgs(ctypes.Structure):
    _fields_ = [(name, c_uint64) for name in (
        "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
        "set_tid_size", "cgroup",
    )]  # fmt: skip


# PyDLL keeps the interpreter's lock over the call, without which the child would wake up not holding it.
_raw = ctypes.PyDLL(None, use_errno=True)["syscall"]
_raw.argtypes = (ctypes.c_long, c_void_p, c_size_t)
_raw.restype = ctypes.c_long


def _python(name: str) -> ctypes._NamedFuncPointer:
    function = ctypes.pythonapi[name]
    function.argtypes = ()
    function.restype = None
    return function


# What os.fork() does around fork(2): import lock, the interpreter's lock, threads, hooks of os.register_at_fork.
_before_fork = _python("PyOS_BeforeFork")
_after_fork_parent = _python("PyOS_AfterFork_Parent")
_after_fork_child = _python("PyOS_AfterFork_Child")


def clone(flags: int, *, cgroup_fd: int | None = None) -> tuple[int, int]:
    """Fork a child that is in new namespaces: (pid, pidfd) in the parent, (0, -1) in the child.

    `cgroup_fd`, an open cgroup v2 directory, is where the child is born (CLONE_INTO_CGROUP, Linux 5.7).
    With CLONE.PARENT it is a sibling, whom the caller's parent waits for. As with `os.fork` the process should have one
    thread. The child leaves with `os._exit` or exec.
    """
    pidfd = c_int(-1)
    args = _CloneArgs(flags=flags | CLONE.PIDFD, exit_signal=0 if flags & CLONE.PARENT else signal.SIGCHLD)
    args.pidfd = ctypes.addressof(pidfd)
    if cgroup_fd is not None:
        args.flags |= CLONE.INTO_CGROUP
        args.cgroup = cgroup_fd
    number, address, size = SYS["clone3"], byref(args), sizeof(args)
    _before_fork()
    pid = _raw(number, address, size)
    if pid == 0:
        _after_fork_child()
        return 0, -1
    error = ctypes.get_errno()
    _after_fork_parent()
    if pid == -1:
        raise SyscallError(error or errno.EINVAL, "clone3")
    return pid, pidfd.value


# Made once, and without argument types: what a nursery touches when it forks is a page less that its children share.
_sibling = _CloneArgs(flags=int(CLONE.PARENT))
_sibling_arguments = (SYS["clone3"], byref(_sibling), sizeof(_sibling))
_clone_sibling = ctypes.PyDLL(None, use_errno=True)["syscall"]


def fork_sibling() -> int:
    """Fork a child whose parent is the caller's parent: its pid, and 0 in the child, which leaves with `os._exit`."""
    _before_fork()
    pid: int = _clone_sibling(*_sibling_arguments)
    if pid == 0:
        _after_fork_child()
        return 0
    error = ctypes.get_errno()
    _after_fork_parent()
    if pid == -1:
        raise SyscallError(error or errno.EINVAL, "clone3")
    return pid


_unshare = Call("unshare", c_int)
_setns = Call("setns", c_int, c_int)


def unshare(flags: int) -> None:
    """Move this process into new namespaces (pid and time: its future children)."""
    _unshare(flags)


def setns(fd: int, flags: int = 0) -> None:
    """Enter the namespace that `fd` is, or those that `flags` names of the process that the pidfd `fd` is."""
    _setns(fd, flags)
