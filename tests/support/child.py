"""Runs a function in a child that has namespaces of its own, and brings back what it returned or raised."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import TypeVar

from sampan.kernel import mount, namespaces
from sampan.kernel.mount import MS
from sampan.kernel.namespaces import CLONE

T = TypeVar("T")

_BY_UNSHARE = CLONE.NEWNS | CLONE.NEWNET | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWCGROUP


def in_child(function: Callable[[], T], flags: int = CLONE.NEWNS, cgroup_fd: int | None = None) -> T:
    """Return what `function` returned in a child in new namespaces. Whatever it mounts or sets ends with it."""
    reader, writer = os.pipe()
    # As the C library forks where that will do: another thread of the tests may hold one of its locks.
    plain = cgroup_fd is None and not flags & ~_BY_UNSHARE
    pid, pidfd = (os.fork(), -1) if plain else namespaces.clone(flags, cgroup_fd=cgroup_fd)
    if pid == 0:
        os.close(reader)
        _child(function, flags, writer, unshare=plain)
    if pidfd >= 0:
        os.close(pidfd)
    os.close(writer)
    with open(reader, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(pid, 0)
    assert answer, f"the child said nothing: {os.waitstatus_to_exitcode(status)}"
    result, error = pickle.loads(answer)
    if error:
        raise AssertionError(f"in the child:\n{error}")
    return result


def _child(function: Callable[[], T], flags: int, writer: int, *, unshare: bool) -> None:
    try:
        if unshare:
            namespaces.unshare(flags)
        if flags & CLONE.NEWNS:
            mount.mount(None, "/", None, MS.REC | MS.PRIVATE)
        answer = pickle.dumps((function(), None))
    except BaseException:
        answer = pickle.dumps((None, traceback.format_exc()))
    while answer:
        answer = answer[os.write(writer, answer) :]
    os._exit(0)
