"""A hijacked connection and our own standard streams, both ways, in one poll loop without threads.

With a terminal the connection carries bytes as they are. Without one, output comes in frames: a byte for the stream
(1 output, 2 error), three zeros, four bytes of length, the data.
"""

from __future__ import annotations

import os
import select

from sampan.cli.output import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.client.wire import Hijacked

_READ = 65536
_HEADER = 8
_SHUT_WR = 1
_IN = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL
_PATIENCE_MS = 10_000
"""How long output may stay silent after the program's end is known before we stop waiting for the stream's end."""


class Detached(Exception):
    """The detach keys were typed."""


class Conversation:
    """Carries bytes between a hijacked connection and this process's standard streams."""

    def __init__(self, hijacked: Hijacked, *, tty: bool, stdin: bool, detach_keys: bytes = b"") -> None:
        self._socket = hijacked.socket
        self._stdin = stdin
        self._keys = detach_keys
        self._held = b""  # a beginning of the detach keys, kept back
        self._pending = b""  # for the server, which does not take it at the moment
        self._stdin_ended = False
        self._output = Output(tty=tty)
        self._first = hijacked.read

    def run(self, also: int = -1, on_also: Callable[[], int] = lambda: -1) -> None:
        """Carry until the server closes the stream. Raises Detached.

        `also` is one more descriptor to watch: when it can be read, `on_also` is called; it returns the descriptor to
        watch from then on, or -1: what it was for is finished, and the stream gets a while to end.
        """
        poll = select.poll()
        server = self._socket.fileno()
        self._socket.setblocking(False)
        poll.register(server, _IN)
        if self._stdin:
            poll.register(0, _IN)
        if also >= 0:
            poll.register(also, _IN)
        timeout: int | None = None
        self._output.write(self._first)
        while True:
            events = poll.poll(timeout)
            if not events:
                return
            for descriptor, event in events:
                if descriptor == server:
                    if event & select.POLLOUT:
                        self._send(poll)
                    if event & _IN and not self._receive():
                        return
                elif descriptor == 0:
                    self._input(poll)
                else:
                    poll.unregister(also)
                    also = on_also()
                    if also < 0:
                        timeout = _PATIENCE_MS
                    else:
                        poll.register(also, _IN)

    def _receive(self) -> bool:
        """Read from the server and write it out; False at the end."""
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        self._output.write(data)
        return bool(data)

    def _input(self, poll: select.poll) -> None:
        """Take what was typed or piped, and stop listening while the server does not take it."""
        try:
            data = os.read(0, _READ)
        except BlockingIOError:
            return
        except OSError:  # a terminal that went away, a descriptor that was never open
            data = b""
        detached = False
        if data:
            typed, detached = self._without_keys(data) if self._keys else (data, False)
            self._pending += typed
        else:
            self._stdin_ended = True
            poll.unregister(0)
        self._send(poll)
        if detached:
            raise Detached

    def _send(self, poll: select.poll) -> None:
        try:
            while self._pending:
                self._pending = self._pending[self._socket.send(self._pending) :]
        except BlockingIOError:
            pass
        except OSError:  # the program closed its input, or ended: what it wrote is still to be read
            self._pending = b""
            if not self._stdin_ended:
                self._stdin_ended = True
                poll.unregister(0)
        server = self._socket.fileno()
        if self._pending:
            poll.register(server, _IN | select.POLLOUT)
            if not self._stdin_ended:
                poll.register(0, 0)
            return
        poll.register(server, _IN)
        if not self._stdin_ended:
            poll.register(0, _IN)
        else:
            self._half_close()

    def _half_close(self) -> None:
        """Tell the program that its input has ended; its output goes on."""
        try:
            self._socket.shutdown(_SHUT_WR)
        except OSError:
            pass

    def _without_keys(self, data: bytes) -> tuple[bytes, bool]:
        """Return what to send of `data`, and whether the detach keys came behind it.

        Their beginning is kept back until it is known not to be them.
        """
        out = bytearray()
        for byte in data:
            self._held += bytes((byte,))
            while self._held and not self._keys.startswith(self._held):
                out.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys:
                return bytes(out), True
        return bytes(out), False


class Output:
    """Writes what the server sends to our own output and error, or gives it to `sink` with the descriptor."""

    def __init__(self, *, tty: bool, sink: Callable[[int, bytes], None] = write_all) -> None:
        self._tty = tty
        self._sink = sink
        self._header = b""
        self._stream = 1
        self._left = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes of the stream; they may end anywhere in a frame."""
        if self._tty:
            self._sink(1, data)
            return
        run: list[bytes] = []  # what comes one behind the other on the same stream is written at once
        at, size, to = 0, len(data), 1
        while at < size:
            if not self._left:
                need = _HEADER - len(self._header)
                self._header += data[at : at + need]
                at += need
                if len(self._header) < _HEADER:
                    break
                self._stream = 2 if self._header[0] in (2, 3) else 1
                self._left = int.from_bytes(self._header[4:8], "big")
                self._header = b""
                continue
            part = data[at : at + self._left]
            self._left -= len(part)
            at += len(part)
            if run and to != self._stream:
                self._sink(to, b"".join(run))
                run.clear()
            to = self._stream
            run.append(part)
        if run:
            self._sink(to, b"".join(run))
