"""The nursery: a fork of the keeper that has stood still since its start, and forks shims ahead of need.

Forked processes share every page that neither side writes to. The keeper is busy: what it writes between two forks is a
private copy for each older child. The nursery does nothing but fork, so all shims share its pages, and one is ready
before it is needed. Its children are the keeper's (CLONE_PARENT): the keeper waits for them.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import gc
import os
import resource
import signal
import socket
import struct
import sys
from collections import deque
from typing import TYPE_CHECKING, NoReturn

from sampan.kernel.namespaces import fork_sibling
from sampan.supervise import shim
from sampan.supervise.loop import IN
from sampan.supervise.rehearsal import rehearse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.supervise.loop import Loop

_SPARE_AFTER_S = 0.02
_AGAIN_AFTER_S = 0.1
_FAILURES = 8


Spare = tuple[int, socket.socket]  # a shim's pid, and the keeper's end of its channel


class Spares:
    """The keeper's stock of shims, of which one is ready most of the time, and the nursery that they come from."""

    def __init__(self, loop: Loop, shims: str) -> None:
        self._loop = loop
        self._shims = shims  # RUN/shims
        self._ready: list[Spare] = []
        self._takers: deque[Callable[[Spare | None], None]] = deque()
        self._ordered = False
        self._failures = 0

    def open(self) -> None:
        """Fork the nursery, and have a first shim made."""
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            # Its children have this name as well: to give themselves another would cost each of them some pages.
            be("sampan-shim", [theirs.fileno()], lambda: _serve(theirs, self._shims))
        theirs.close()
        self._loop.watch(self._sock.fileno(), IN, self._born)
        self._ordered = False
        self._order()

    def take(self, taker: Callable[[Spare | None], None]) -> None:
        """Call `taker` with a shim: at once, or when the next is made; with None where time and again none can be."""
        self._takers.append(taker)
        for spare in tuple(self._ready):
            if not _lives(spare[0]):
                self._ready.remove(spare)
        if self._ready:
            self._give()
        else:
            self._order()

    def reaped(self, pid: int) -> bool:
        """Take note of a child's end; False if it is none of these."""
        for spare in self._ready:
            if pid == spare[0]:
                self._ready.remove(spare)
                self._failed(self._order_spare)
                return True
        return pid == self._pid

    def close(self) -> set[int]:
        """Let all of them end; return their pids."""
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        if _lives(self._pid):
            os.kill(self._pid, signal.SIGKILL)  # it may be rehearsing still, and holds nothing
        for _, sock in self._ready:
            sock.close()
        return {self._pid, *(pid for pid, _ in self._ready)}

    def _order(self) -> None:
        if not self._ordered:
            self._ordered = True
            try:
                self._sock.send(b"s")
            except OSError:  # it was killed, and `_born` hears of it
                pass

    def _born(self, _events: int) -> None:
        """One is made, or the nursery has ended."""
        self._ordered = False
        try:
            pid, descriptors, _, _ = socket.recv_fds(self._sock, 32, 1)
        except ConnectionResetError:
            pid = b""
        if not pid:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._failed(self._reopen)
            return
        spare = (int(pid), socket.socket(fileno=descriptors[0]))
        if not _lives(spare[0]):  # killed at once: perhaps it was reaped before its birth was told
            spare[1].close()
            self._failed(self._order_spare)
            return
        self._failures = 0
        self._ready.append(spare)
        if self._takers:
            self._give()

    def _failed(self, again: Callable[[], None]) -> None:
        """Try again in a while; who waits is told when it has failed too often."""
        self._failures += 1
        if self._failures >= _FAILURES:
            while self._takers:
                self._takers.popleft()(None)
        self._loop.call_later(_AGAIN_AFTER_S, again)

    def _reopen(self) -> None:
        try:
            self.open()
        except OSError:
            self._failed(self._reopen)

    def _give(self) -> None:
        self._takers.popleft()(self._ready.pop())
        if self._takers:
            self._order()
        elif not self._ready:  # the next one in a while: what begins now has the processors for itself
            self._loop.call_later(_SPARE_AFTER_S, self._order_spare)

    def _order_spare(self) -> None:
        if not self._ready:
            self._order()


def _lives(child: int) -> bool:
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:  # it has ended, and was reaped
        return False


def _serve(sock: socket.socket, shims: str) -> None:
    ready = _socket.socket(fileno=sock.detach())
    rehearse(_rehearse_birth)
    close_others([ready.fileno()])
    gc.freeze()
    # Each object that is touched here is a page that no child shares with the next: no socket.socket, few calls.
    while _asked(ready):
        if not _bear(ready, lambda end: shim.wait(end, shims)):
            return


def _bear(ready: _socket.socket, story: Callable[[socket.socket], None]) -> bool:
    """Make one and give the keeper its socket; False where the keeper has ended. The shim sees that as well."""
    ours, theirs = _socket.socketpair()
    pid = fork_sibling()
    if pid == 0:
        ready.close()
        ours.close()
        _tell(lambda: story(socket.socket(fileno=theirs.detach())))
    try:
        ready.sendmsg((b"%d" % pid,), ((_SOCKET, _RIGHTS, _DESCRIPTOR.pack(ours.fileno())),))
    except BrokenPipeError:
        return False
    ours.close()
    theirs.close()
    return True


def _rehearse_birth() -> None:
    keeper, ready = _socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper.send(b"s")
    _asked(ready)
    _bear(ready, lambda _end: None)
    ready.close()
    keeper.close()


def _asked(ready: _socket.socket) -> bool:
    try:
        return bool(ready.recv(1))
    except ConnectionResetError:
        return False


# What signal.signal and ctypes do in Python code would stay in every shim's own pages: 200 KiB.
_CHLD = int(signal.SIGCHLD)
_IGNORED = (int(signal.SIGTERM), int(signal.SIGINT), int(signal.SIGHUP))
_DEFAULT, _IGNORE = int(signal.SIG_DFL), int(signal.SIG_IGN)
_SOCKET, _RIGHTS, _DESCRIPTOR = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS), struct.Struct("i")
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
