"""A request's body, of a stated length or in chunks (RFC 9112 §6, §7), in pieces of one buffer.

h11 reads heads. Of a body it would make three copies, which for a layer is most of what a server does: here the
socket's bytes go into a buffer once. A codec only: what receives is handed in, and h11 is the oracle in its tests.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BUFFER = 262144
_LINE_MAX = 4096
_TRAILER_MAX = 16384
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")


class Malformed(Exception):
    """The chunks are none, or the client has left in the middle."""


class Body:
    """`already` is what was read together with the head; `length` is None where the body comes in chunks."""

    def __init__(self, already: bytes, length: int | None) -> None:
        self._have = memoryview(already)
        self._buffer: memoryview | None = None
        self._left = length or 0  # of the content, or of the chunk
        self._chunked = length is None
        self._in_chunk = False
        self._size = min(length, BUFFER) if length is not None else BUFFER
        self.done = length == 0

    @property
    def rest(self) -> bytes:
        """What was read past the body's end, once that is `done`."""
        return bytes(self._have)

    def next(self, receive: Callable[[memoryview], int]) -> memoryview | None:
        """Return the next piece, None at the end. It is good until the next call. Raises Malformed."""
        while not self.done:
            if self._left:
                if not self._have:
                    self._fill(receive)
                piece = self._have[: self._left]
                self._have = self._have[len(piece) :]
                self._left -= len(piece)
                self.done = not self._chunked and not self._left
                return piece
            self._next_chunk(receive)
        self._buffer = None
        return None

    def _fill(self, receive: Callable[[memoryview], int]) -> None:
        if self._buffer is None:
            self._buffer = memoryview(bytearray(self._size))
        count = receive(self._buffer)
        if count == 0:
            raise Malformed("it ends early")
        self._have = self._buffer[:count]

    def _next_chunk(self, receive: Callable[[memoryview], int]) -> None:
        """Read what is between two chunks: the first one's end, the second one's size."""
        if self._in_chunk and self._line(receive) != b"\r\n":
            raise Malformed("a chunk is longer than its size")
        size = _SIZE.fullmatch(self._line(receive))
        if size is None:
            raise Malformed("a chunk's size is none")
        self._left = int(size[1], 16)
        self._in_chunk = True
        if self._left == 0:
            self._skip_trailers(receive)
            self.done = True

    def _skip_trailers(self, receive: Callable[[memoryview], int]) -> None:
        length = 0
        while (line := self._line(receive)) != b"\r\n":
            length += len(line)
            if length > _TRAILER_MAX or not _TRAILER.fullmatch(line):
                raise Malformed("its trailers are none, or too long")

    def _line(self, receive: Callable[[memoryview], int]) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            if len(line) >= _LINE_MAX:
                raise Malformed("a line is too long")
            if not self._have:
                self._fill(receive)
            window = bytes(self._have[: _LINE_MAX - len(line)])
            part = window[: window.find(b"\n") + 1] or window
            line += part
            self._have = self._have[len(part) :]
        return line
