"""A process's standard streams: from its pipes or terminal to the log and the attached clients, and back.

Output flows whoever listens; a client that does not read holds it up, so that no log is ahead of a client by more than
a queue. Reads are of 2 KiB into one buffer: a shim is small because of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.kernel import tty
from sampan.supervise.loop import IN, OUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sampan.supervise.attach import Client
    from sampan.supervise.logs import Log
    from sampan.supervise.loop import Loop

_READ_BYTES = 2048
_READS_AT_ONCE = 8
_DRAIN_READS = 1024
_HUNG_UP_WAIT_S = 0.2
_buffer = bytearray(_READ_BYTES)
_view = memoryview(_buffer)


def pipes(*, stdin: bool) -> tuple[dict[str, int], tuple[int, int, int]]:
    """Make a process's pipes: our ends by stream, not blocking, and its three descriptors, which the caller closes."""
    ours: dict[str, int] = {}
    theirs = [-1, -1, -1]
    try:
        if stdin:
            theirs[0], ours["stdin"] = os.pipe2(os.O_CLOEXEC)
        else:
            theirs[0] = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        ours["stdout"], theirs[1] = os.pipe2(os.O_CLOEXEC)
        ours["stderr"], theirs[2] = os.pipe2(os.O_CLOEXEC)
        for fd in ours.values():
            os.set_blocking(fd, False)
    except OSError:
        close_all(ours.values())
        close_all(fd for fd in theirs if fd >= 0)
        raise
    return ours, (theirs[0], theirs[1], theirs[2])


def nowhere() -> tuple[dict[str, int], tuple[int, int, int]]:
    """Open /dev/null three times: for a process that nobody listens to."""
    first = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    return {}, (first, os.dup(first), os.dup(first))


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)


class Streams:
    """What `ends` carry: `stdin`, `stdout` and `stderr`, or `terminal` alone.

    `on_close(stream)` is called when one of them is closed, so that the keeper's duplicate of it is as well.
    """

    def __init__(
        self,
        loop: Loop,
        ends: dict[str, int],
        log: Log | None,
        on_close: Callable[[str], None],
        *,
        closes_stdin: bool,
    ) -> None:
        self._loop = loop
        self._ends = ends
        self._log = log
        if log:
            log.on_drained = self._flow
        self._on_close = on_close
        self._closes_stdin = closes_stdin
        self._clients: list[Client] = []
        self._held_up = False
        self._draining = False
        self._ended = False
        self._input = bytearray()
        self._closing_stdin = False
        self._writing = False
        self.is_terminal = "terminal" in ends
        self._outputs = {ends[s]: s for s in ("stdout", "stderr", "terminal") if s in ends}
        self._stdin = os.dup(ends["terminal"]) if self.is_terminal else ends.get("stdin", -1)
        for fd in ends.values():
            os.set_blocking(fd, False)
        for fd in self._outputs:
            self._listen(fd)

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; without one this does nothing."""
        if "terminal" in self._ends:
            tty.set_size(self._ends["terminal"], rows, columns)

    def ends(self) -> dict[str, int]:
        """Return what is open, by stream."""
        return dict(self._ends)

    # -- clients

    def attach(self, client: Client, detach_keys: bytes, greeting: bytes = b"", already_read: bytes = b"") -> None:
        """Let a client take part."""
        client.on_input = self._take
        client.on_input_end = self._input_ended
        client.on_drained = self._flow
        client.on_gone = self._client_gone
        self._clients.append(client)
        client.begin(raw=self.is_terminal, detach_keys=detach_keys, greeting=greeting, already_read=already_read)
        if self._input and not client.gone:
            client.read_input(False)

    @property
    def clients(self) -> int:
        """How many take part."""
        return len(self._clients)

    def _client_gone(self, client: Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
        self._flow()

    # -- output

    def _listen(self, fd: int) -> None:
        def ready(_events: int) -> None:
            self._read(fd, _READS_AT_ONCE)

        self._loop.watch(fd, IN, ready)

    def _read(self, fd: int, times: int) -> bool:
        """Read and pass on; True while more may come, False where there is nothing more now."""
        for _ in range(times):
            try:
                count = os.readv(fd, (_buffer,))
            except BlockingIOError:
                return False
            except OSError:  # EIO: nobody has the terminal open
                self._hung_up(fd)
                return False
            if not count:
                self._end(fd)
                return False
            self._pass_on(self._outputs[fd], _view[:count])
            if self._held_up and not self._draining:
                return False
        return True

    def _pass_on(self, stream: str, data: memoryview) -> None:
        if stream == "terminal":
            stream = "stdout"
        if self._ended:
            return
        if self._log:
            self._log.write(stream, data)
        for client in tuple(self._clients):
            client.deliver(stream, data)
        if not self._draining and not self._held_up and self._must_wait():
            self._held_up = True
            for fd in self._outputs:
                self._loop.forget(fd)

    def _must_wait(self) -> bool:
        if self._log and self._log.holds_up and not self._ended:
            return True
        return any(client.holds_up for client in self._clients)

    def _flow(self) -> None:
        if self._held_up and not self._must_wait():
            self._held_up = False
            for fd in self._outputs:
                self._listen(fd)

    def _hung_up(self, fd: int) -> None:
        """Look again later: a program may close its terminal and open it again, and epoll would report HUP for ever."""
        self._loop.forget(fd)

        def again() -> None:
            if fd in self._outputs and not self._held_up and not self._loop.watches(fd):
                self._listen(fd)

        self._loop.call_later(_HUNG_UP_WAIT_S, again)

    def _end(self, fd: int) -> None:
        stream = self._outputs.pop(fd)
        if self._log and not self._ended:
            self._log.end(stream)
        self._loop.forget(fd)
        self._close(stream)

    def _close(self, stream: str) -> None:
        fd = self._ends.pop(stream, -1)
        if fd >= 0:
            os.close(fd)
            self._on_close(stream)

    # -- input

    def _take(self, client: Client, data: bytes) -> None:
        if self._stdin < 0:
            return
        self._input += data
        self._write()
        if self._input and not client.gone:
            for each in self._clients:
                each.read_input(False)

    def _input_ended(self, _client: Client) -> None:
        self.end_input()

    def end_input(self) -> None:
        """The client that typed is gone, and the process's input with it, unless others may come."""
        if self._closes_stdin and not self.is_terminal:
            self.close_stdin()

    def close_stdin(self) -> None:
        """Close the process's standard input when it has taken all that was typed."""
        self._closing_stdin = True
        if not self._input:
            self._drop_stdin()

    def _write(self) -> None:
        was_full = self._writing
        try:
            while self._input:
                del self._input[: os.write(self._stdin, self._input)]
        except BlockingIOError:
            if not self._writing:
                self._writing = True
                self._loop.watch(self._stdin, OUT, lambda _events: self._write())
            return
        except OSError:  # the process has closed it
            self._closing_stdin = True
            self._input.clear()
        if self._writing:
            self._writing = False
            self._loop.forget(self._stdin)
        if self._closing_stdin:
            self._drop_stdin()
        if was_full:
            for client in tuple(self._clients):
                client.read_input(True)

    def _drop_stdin(self) -> None:
        if self._stdin < 0:
            return
        if self._writing:
            self._writing = False
            self._loop.forget(self._stdin)
        if self.is_terminal:
            os.close(self._stdin)
        else:
            self._close("stdin")
        self._stdin = -1

    # -- end

    def drain(self) -> None:
        """The process has ended: pass on what it has written, however slow the clients are, and close the log."""
        self._draining = True
        for fd in tuple(self._outputs):
            for _ in range(_DRAIN_READS):
                if fd not in self._outputs or not self._read(fd, 1):
                    break
        self._ended = True
        if self._log:
            self._log.close()

    def finish(self) -> None:
        """After `drain`: let the clients go when they have it all.

        A process left behind may still hold the pipes: what that writes goes nowhere, but does not kill it.
        """
        self._input.clear()
        self._drop_stdin()
        for client in tuple(self._clients):
            client.finish()
        if self._held_up:
            self._held_up = False
            for fd in self._outputs:
                self._listen(fd)

    def close(self) -> None:
        """Close every end, whoever holds the other."""
        for fd in self._outputs:
            self._loop.forget(fd)
        self._outputs.clear()
        self._drop_stdin()
        for stream in tuple(self._ends):
            self._close(stream)
