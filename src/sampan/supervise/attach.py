"""One attached client: a hijacked connection that gets the output and gives the input."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from sampan.supervise.loop import HALF_CLOSED, HUP, IN, OUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.supervise.loop import Loop

NUMBERS = {"stdout": 1, "stderr": 2}
"""The first byte of Docker's eight-byte header, by stream."""

HIGH_WATER_BYTES = 64 * 1024
"""A client that has this much unread holds the container's output up."""

_READ_BYTES = 4096


class DetachKeys:
    """Finds the detach sequence in what a client types; keys that may begin it are held back until it is clear."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what goes to the terminal, and whether the sequence was completed (what follows it is dropped)."""
        keys = self._keys
        if not keys or (not self._matched and keys[0] not in data):
            return data, False
        out = bytearray()
        for byte in data:
            while self._matched and byte != keys[self._matched]:
                self._fall_back(out)
            if byte != keys[self._matched]:
                out.append(byte)
                continue
            self._matched += 1
            if self._matched == len(keys):
                self._matched = 0
                return bytes(out), True
        return bytes(out), False

    def _fall_back(self, out: bytearray) -> None:
        """Give up the longest beginning that cannot be one any more, and keep the rest that still may."""
        held = self._keys[: self._matched]
        for kept in range(self._matched - 1, -1, -1):
            if held.endswith(self._keys[:kept]):
                out += held[: self._matched - kept]
                self._matched = kept
                return


class Client:
    """Frames (or, with a terminal, copies) output to a connection, and reads its input.

    `on_input(data)` gets what the client typed; `on_input_end()` is called once, if it may type, at its end of file or
    its going; `on_drained()` when one that held the output up has read enough; `on_gone()` once, at the end of all.
    """

    def __init__(self, loop: Loop, fd: int, streams: frozenset[str]) -> None:
        self.fd = fd
        self.gone = False
        self._loop = loop
        self._streams = streams
        self._has_input = "stdin" in streams
        self._raw = False
        self._keys: DetachKeys | None = None
        self._queue = bytearray()
        self._reading = False
        self._input_ended = False
        self._closing = False
        self._parked = False
        self._events = 0
        self.on_input: Callable[[Client, bytes], None] = lambda _client, _data: None
        self.on_input_end: Callable[[Client], None] = lambda _client: None
        self.on_drained: Callable[[], None] = lambda: None
        self.on_gone: Callable[[Client], None] = lambda _client: None
        os.set_blocking(fd, False)
        loop.watch(fd, self._events, self._ready)

    @property
    def holds_up(self) -> bool:
        """Whether more output must wait for this client."""
        return len(self._queue) > HIGH_WATER_BYTES

    def begin(self, *, raw: bool, detach_keys: bytes, greeting: bytes, already_read: bytes) -> None:
        """Serve it: say `greeting` to it first, and take `already_read` for the start of its input."""
        self._raw = raw
        # Docker looks for the keys where there is a terminal only: a pipe may carry any bytes.
        self._keys = DetachKeys(detach_keys) if raw else None
        if greeting:
            self._send(greeting)
        if already_read and not self.gone:
            self._take(already_read)
        self.read_input(True)

    def deliver(self, stream: str, data: memoryview | bytes) -> None:
        """Give it output, if it asked for this stream."""
        if stream not in self._streams or self.gone or self._closing:
            return
        self._send(self._framed(stream, data))

    def _framed(self, stream: str, data: memoryview | bytes) -> memoryview | bytes:
        """Return output as the client gets it."""
        if self._raw:
            return data
        return b"%c\0\0\0%b" % (NUMBERS[stream], len(data).to_bytes(4, "big")) + data

    def read_input(self, wanted: bool) -> None:
        """Read from the client, or leave it waiting because the container does not read either."""
        self._reading = wanted
        self._watch()

    def finish(self) -> None:
        """Close it once all of its output is sent."""
        self._closing = True
        self._end_input()
        if not self._queue:
            self.close()

    def close(self) -> None:
        """Close it now, whatever it has not read."""
        if self.gone:
            return
        self.gone = True
        self._end_input()
        self._loop.forget(self.fd)
        _shut_down(self.fd)
        os.close(self.fd)
        self.on_gone(self)

    def _send(self, data: memoryview | bytes) -> None:
        sent = 0
        if not self._queue:
            try:
                sent = os.write(self.fd, data)
            except BlockingIOError:
                pass
            except OSError:
                self.close()
                return
        if sent < len(data):
            self._queue += memoryview(data)[sent:]
            self._watch()

    @property
    def _may_type(self) -> bool:
        return self._has_input and not self._input_ended

    def _watch(self) -> None:
        if self.gone:
            return
        events = OUT if self._queue else 0
        if self._reading and self._may_type:
            events |= IN | HALF_CLOSED
        if self._parked and events:
            self._parked = False
            self._loop.watch(self.fd, events, self._ready)
        elif events != self._events and not self._parked:
            self._loop.change(self.fd, events)
        self._events = events

    def _ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if self.gone:
            return
        if self._reading and self._may_type and events & (IN | HALF_CLOSED | HUP):
            self._read()
        elif events & HUP:
            self._leave()

    def _leave(self) -> None:
        """Close it, unless it has left input behind that the container can't take yet: epoll always reports HUP."""
        if self._may_type and not self._closing:
            self._parked = True
            self._loop.forget(self.fd)
        else:
            self.close()

    def _flush(self) -> None:
        held_up = self.holds_up
        try:
            del self._queue[: os.write(self.fd, self._queue)]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._queue:
            self._queue = bytearray()  # gives the memory back
            if self._closing:
                self.close()
        self._watch()
        if held_up and not self.holds_up:
            self.on_drained()

    def _read(self) -> None:
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if data:
            self._take(data)
        else:
            self._said_all()

    def _said_all(self) -> None:
        """End of file came from the client: it may listen on."""
        self._end_input()
        self._watch()

    def _take(self, data: bytes) -> None:
        if not self._has_input:
            return
        detached = False
        if self._keys:
            data, detached = self._keys.feed(data)
        if data:
            self.on_input(self, data)
        if detached:
            # Typing the keys leaves the container's input open, whatever closes it otherwise.
            self._input_ended = True
            self.finish()

    def _end_input(self) -> None:
        if not self._input_ended:
            self._input_ended = True
            if self._has_input:
                self.on_input_end(self)


def _shut_down(fd: int) -> None:
    """End the connection for its other end too, which a process that holds a duplicate would keep open."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        try:
            sock.shutdown(socket.SHUT_RDWR)
            # What a client typed and nobody read would make its reading end in ECONNRESET instead of an end of file
            # (unix_release_sock in net/unix/af_unix.c); nothing more can arrive after the shutdown.
            while sock.recv(65536, socket.MSG_DONTWAIT):
                pass
        except OSError:  # it is not connected any more
            pass
