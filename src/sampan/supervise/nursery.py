"""The nursery: a fork of the keeper that has stood still since its start, and forks shims ahead of need.

Forked processes share every page that neither side writes to. The keeper is busy: what it writes between two forks is a
private copy for each older child. The nursery does nothing but fork, so all shims share its pages, and one is ready
before it is needed. Its children are the keeper's (CLONE_PARENT): the keeper waits for them.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from sampan.kernel.namespaces import CLONE, clone
from sampan.supervise import shim
from sampan.supervise.rehearsal import rehearse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Nursery:
    """The keeper's end."""

    def __init__(self, shims: str) -> None:
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            # Its children have this name as well: to give themselves another would cost each of them some pages.
            be("sampan-shim", [theirs.fileno()], lambda: _serve(theirs, shims))
        theirs.close()

    def ask(self) -> None:
        """Ask for a shim; `take` when the socket is readable."""
        try:
            self.sock.send(b"s")
        except OSError:  # it was killed, which `take` will tell
            pass

    def take(self) -> tuple[int, socket.socket] | None:
        """Return a new shim's pid and the keeper's end of its channel; None when the nursery has ended."""
        try:
            pid, descriptors, _, _ = socket.recv_fds(self.sock, 32, 1)
        except ConnectionResetError:
            return None
        return (int(pid), socket.socket(fileno=descriptors[0])) if pid else None


def _serve(sock: socket.socket, shims: str) -> None:
    rehearse()
    close_others([sock.fileno()])
    gc.freeze()
    while _asked(sock):
        ours, theirs = socket.socketpair()
        pid, pidfd = clone(_PARENT)
        if pid == 0:
            sock.close()
            ours.close()
            _tell(lambda end=theirs: shim.wait(end, shims))  # type: ignore[misc]
        os.close(pidfd)
        try:
            socket.send_fds(sock, [str(pid).encode()], [ours.fileno()])
        except BrokenPipeError:  # the keeper has ended; the shim sees that as well
            return
        ours.close()
        theirs.close()


def _asked(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1))
    except ConnectionResetError:
        return False


# What signal.signal and ctypes do in Python code would stay in every shim's own pages: 200 KiB.
_CHLD = int(signal.SIGCHLD)
_IGNORED = (int(signal.SIGTERM), int(signal.SIGINT), int(signal.SIGHUP))
_DEFAULT, _IGNORE = int(signal.SIG_DFL), int(signal.SIG_IGN)
_PARENT = int(CLONE.PARENT)
# Where this Python was built without close_range(2), os.closerange closes one by one.
_LAST = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 20)


def rename(name: str) -> None:
    """Set what ps shows as this process's name."""
    fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, name.encode())
    os.close(fd)


def close_others(kept: Sequence[int]) -> None:
    """Close every descriptor but standard input, output and error, and `kept`."""
    last = 2
    for fd in sorted(kept):
        os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, _LAST)


def be(name: str, kept: Sequence[int], story: Callable[[], None]) -> NoReturn:
    """Be a forked child: with the descriptors `kept` and no others, on default signals, until `story` is told."""
    gc.freeze()
    _signal.set_wakeup_fd(-1)
    _signal.signal(_CHLD, _DEFAULT)
    for number in _IGNORED:
        _signal.signal(number, _IGNORE)
    rename(name)
    close_others(kept)
    _tell(story)


def _tell(story: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        story()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)
