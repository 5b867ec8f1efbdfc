"""A network namespace, held by a descriptor; threads of this process that are in it for one call.

A thread that has entered a namespace never goes back and is never used again: it ends. What this process does for the
host can't happen in a container's network.
"""

from __future__ import annotations

import _thread
import errno
import os
import socket
from typing import TYPE_CHECKING, TypeVar

from sampan.errors import Failed, from_os_error
from sampan.kernel import process
from sampan.kernel.namespaces import CLONE, setns, unshare

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

T = TypeVar("T")


def _in_a_thread(function: Callable[[], T]) -> T:
    """Call it in a thread that ends with it."""
    results: list[T] = []
    errors: list[BaseException] = []
    ended = _thread.allocate_lock()

    def run() -> None:
        try:
            results.append(function())
        except BaseException as e:
            errors.append(e)
        finally:
            ended.release()

    ended.acquire()
    _thread.start_new_thread(run, ())
    ended.acquire()
    if errors:
        raise errors[0]
    return results[0]


class Namespace:
    """A network namespace, or its owner. It lives as long as a process is in it or a descriptor is open: close it."""

    def __init__(self, fd: int) -> None:
        """Take over a descriptor of it."""
        self.fd = fd

    @classmethod
    def new(cls) -> Self:
        """Make one. Nothing is in it but `lo`, which is down. Raises SampanError."""

        def make() -> int:
            unshare(CLONE.NEWNET)
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        try:
            return cls(_in_a_thread(make))
        except OSError as e:
            if e.errno == errno.ENOSPC:  # no disk is full: unshare(2)
                text = "can't make a network namespace: there are as many as this host allows"
                raise Failed(text, "raise /proc/sys/user/max_net_namespaces") from e
            raise from_os_error(e).within("can't make a network namespace") from e

    @classmethod
    def of(cls, pid: int, start_time: int) -> Self:
        """Hold the one that a process is in, which began at `start_time`: its number may be another's by now.

        Raises ProcessLookupError where it has ended.
        """
        try:
            namespace = cls(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            try:
                if process.start_time(pid) != start_time:
                    raise FileNotFoundError
            except BaseException:
                namespace.close()
                raise
        except FileNotFoundError:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
        return namespace

    def call(self, function: Callable[[], T]) -> T:
        """Call it in a thread that is in the namespace, and return or raise what it does."""

        def enter_and_call() -> T:
            setns(self.fd, CLONE.NEWNET)
            return function()

        return _in_a_thread(enter_and_call)

    def socket(self, family: int, type: int, protocol: int = 0) -> socket.socket:
        """Make a socket that is in the namespace for good; it keeps the namespace alive until it is closed."""
        return self.call(lambda: socket.socket(family, type, protocol))

    def close(self) -> None:
        """Let go of it; once more does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
