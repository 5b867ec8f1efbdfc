"""Output that comes in reads of any size, cut into lines; a line longer than 16 KiB is cut into pieces."""

from __future__ import annotations

PIECE_BYTES = 16 * 1024
"""The most of one line that stands in one piece."""


class Lines:
    """Cuts one stream into lines and pieces, from reads of any size."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Return the lines and pieces that are whole with `data`."""
        data = bytes(data)
        if b"\n" not in data and len(self._rest) + len(data) < PIECE_BYTES:
            self._rest += data
            return []
        if self._rest:
            data = bytes(self._rest) + data
        lines = data.split(b"\n")
        self._rest = bytearray(lines.pop())
        whole = []
        for line in lines:
            *pieces, last = _pieces(line) if len(line) >= PIECE_BYTES else (line,)
            whole += pieces
            whole.append(last + b"\n")
        if len(self._rest) >= PIECE_BYTES:
            *pieces, rest = _pieces(bytes(self._rest))
            self._rest = bytearray(rest)
            whole += pieces
        return whole

    def block(self, data: bytes, *, escaping: bool = True) -> bytes | None:
        """Return all lines that are whole with `data` in one piece; None where only `feed` will do.

        That is where a line may be too long, or, for who escapes them all at once (`escaping`), where a backslash
        stands, which would be taken for part of an escape.
        """
        if len(self._rest) + len(data) >= PIECE_BYTES or (escaping and (b"\\" in data or b"\\" in self._rest)):
            return None
        end = data.rfind(b"\n") + 1
        if not end:
            self._rest += data
            return b""
        whole = bytes(self._rest) + data[:end]
        self._rest = bytearray(data[end:])
        return whole

    def end(self) -> list[bytes]:
        """Return what no newline has ended, at the stream's end."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [rest] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    """Cut before a character rather than inside one; the last piece is the shortest, and may be empty."""
    pieces = []
    start = 0
    while len(line) - start >= PIECE_BYTES:
        end = start + PIECE_BYTES
        # 10xxxxxx continues a character of UTF-8, which has four bytes at most; other bytes are no text anyway.
        cut = next((i for i in range(end, end - 4, -1) if i == len(line) or line[i] & 0xC0 != 0x80), end)
        pieces.append(line[start:cut])
        start = cut
    pieces.append(line[start:])
    return pieces
