"""Being a program's parent until it ends: signals go to it, and its terminal's bytes both ways."""

from __future__ import annotations

import errno
import os
import select
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.kernel import process

if TYPE_CHECKING:
    from sampan.runtime.container import Running

_CHUNK = 65536
# Raised by this process's own doing or faults, or for its own terminal.
_OWN = frozenset({
    signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGURG, signal.SIGWINCH, signal.SIGPIPE, signal.SIGFPE,
    signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS, signal.SIGTTIN,
    signal.SIGTTOU, signal.SIGTSTP, signal.SIGCONT,
})  # fmt: skip


def hold_signals() -> None:
    """Before the container is made: what comes meanwhile waits for `stay`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _OWN)


def stay(running: Running, *, subreaper: bool) -> int:
    """Wait for a started process; return its exit code, 128 + n where signal n ended it."""
    if subreaper:
        process.set_child_subreaper()
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (*(signal.valid_signals() - _OWN), signal.SIGWINCH, signal.SIGCHLD):
        with suppress(OSError, ValueError):
            signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    loop = _Loop(running, woken)
    if running.console is None:
        return loop.until_it_ends()
    from sampan.oci.terminal import Raw

    with Raw():
        return loop.until_it_ends()


def _ignore(number: int, frame: object) -> None:
    """The wake-up descriptor says it."""


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class _Loop:
    def __init__(self, running: Running, woken: int) -> None:
        self._running = running
        self._woken = woken
        self._watch = select.poll()
        self._watch.register(woken, select.POLLIN)
        if running.console is not None:
            from sampan.oci.terminal import pass_size

            pass_size(running.console)
            self._watch.register(running.console, select.POLLIN)
            self._watch.register(0, select.POLLIN)

    def until_it_ends(self) -> int:
        status: int | None = None
        while status is None:
            # A child may have ended before its signal could wake this.
            status = self._reaped()
            if status is None:
                for fd, _ in self._watch.poll():
                    self._serve(fd)
        self._drain()
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def _reaped(self) -> int | None:
        """Collect whoever has ended; return the program's status when it is among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == self._running.pid:
                return status
            if pid == 0:
                return None

    def _serve(self, fd: int) -> None:
        if fd == self._woken:
            for number in os.read(fd, _CHUNK):
                self._signalled(number)
        elif fd == 0:
            self._typed()
        else:
            self._printed()

    def _signalled(self, number: int) -> None:
        if number == signal.SIGWINCH and self._running.console is not None:
            from sampan.oci.terminal import pass_size

            pass_size(self._running.console)
        elif number not in _OWN:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._running.pidfd, number)

    def _typed(self) -> None:
        assert self._running.console is not None
        data = b""
        with suppress(OSError):
            data = os.read(0, _CHUNK)
        if data:
            _write_all(self._running.console, data)
        else:
            self._watch.unregister(0)

    def _printed(self) -> bool:
        console = self._running.console
        assert console is not None
        try:
            data = os.read(console, _CHUNK)
        except OSError as e:
            if e.errno != errno.EIO:  # the other side was closed by all who had it
                raise
            data = b""
        if data:
            _write_all(1, data)
        else:
            self._watch.unregister(console)
            self._running.console = None
        return bool(data)

    def _drain(self) -> None:
        """Print what the program left in its terminal."""
        while (console := self._running.console) is not None:
            if not select.select([console], [], [], 0)[0] or not self._printed():
                return
