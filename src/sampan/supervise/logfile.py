r"""A container's log: one JSON object a line, as Docker's json-file driver writes it, rotated.

    {"log":"hello\n","stream":"stdout","time":"2024-05-01T12:00:00.123456789Z"}

What the driver's options add stands before the time, the same in each: `"attrs":{"tag":"web"}`.

A line longer than 16 KiB is cut into pieces, of which only the last has the newline. What is no UTF-8 is replaced. A
full disk drops lines, and says how many where they are missing: the container never waits for its log, and no file ends
in half an object.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from sampan.supervise.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.supervise.compressing import Compressor

_MEND_BYTES = 4096
_BLOCK_BYTES = 512
_LINES_AT_ONCE = 32  # more make a shim larger, not faster
_quote = msgspec.json.Encoder().encode


def record(line: bytes, stream: str, now_ns: int, attributes: bytes = b"") -> bytes:
    """Return one object of the log, with its newline. `attributes` is a member of it, with a comma before."""
    text = _quote(line.decode("utf-8", "replace"))
    return b'{"log":%b,"stream":"%b"%b,"time":"%b"}\n' % (text, stream.encode(), attributes, rfc3339(now_ns))


def records(block: bytes, stream: str, now_ns: int, attributes: bytes = b"") -> bytes:
    """Return the objects of many whole lines without a backslash: as `record` of each, in a tenth of the time."""
    text = _quote(block.decode("utf-8", "replace"))
    end = b'\\n","stream":"%b"%b,"time":"%b"}\n' % (stream.encode(), attributes, rfc3339(now_ns))
    # Its only escapes are of control characters: a newline is always the two bytes that stand for the end of a line.
    return (b'{"log":' + text[:-1]).replace(b"\\n", end + b'{"log":"')[: -len(b'{"log":"')]


_second = (-1, b"")


def rfc3339(ns: int) -> bytes:
    """Return a time of the wall clock as RFC 3339 in UTC, always with nine digits after the point."""
    global _second
    seconds, rest = divmod(ns, 1_000_000_000)
    if seconds != _second[0]:
        _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode())
    return b"%b.%09dZ" % (_second[1], rest)


class LogFile:
    """The file of the present, and those of the past: PATH, PATH.1 … PATH.N-1, the greatest number the oldest.

    With a compressor those of the past become PATH.N.gz soon. `max_bytes` 0 is no limit.
    """

    holds_up = False  # a file takes what comes
    on_drained: Callable[[], None]

    def __init__(
        self,
        path: str,
        max_bytes: int = 10_000_000,
        max_files: int = 3,
        *,
        attributes: bytes = b"",
        compressor: Compressor | None = None,
    ) -> None:
        self.dropped_lines = 0
        self._gap_lines = 0  # dropped since the last that was written
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._attributes = attributes
        self._compressor = compressor
        self._lines: dict[str, Lines] = {}
        self._fd = -1
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether something is still done for it."""
        return self._compressor is not None and self._compressor.busy

    def write(self, stream: str, data: bytes | bytearray | memoryview) -> None:
        """Log what came on a stream just now."""
        lines = self._lines.get(stream)
        if lines is None:
            lines = self._lines[stream] = Lines()
        data = bytes(data)
        block = lines.block(data)
        if block is None:
            self._append(stream, lines.feed(data))
        else:
            self._append_block(stream, block)

    def end(self, stream: str) -> None:
        """Log what the stream has left without a newline."""
        lines = self._lines.pop(stream, None)
        if lines:
            self._append(stream, lines.end())

    def close(self) -> None:
        """Log the rest of every stream and close the file."""
        for stream in list(self._lines):
            self.end(stream)
        self._close()

    def _append(self, stream: str, lines: list[bytes]) -> None:
        if not lines:
            return
        now_ns = time.time_ns()
        for at in range(0, len(lines), _LINES_AT_ONCE):
            batch = lines[at : at + _LINES_AT_ONCE]
            try:
                self._write(b"".join([record(line, stream, now_ns, self._attributes) for line in batch]))
            except OSError:
                self._drop(len(batch))

    def _append_block(self, stream: str, block: bytes) -> None:
        now_ns = time.time_ns()
        start = 0
        while start < len(block):
            end = block.rfind(b"\n", start, start + _BLOCK_BYTES) + 1 or block.find(b"\n", start) + 1
            try:
                self._write(records(block[start:end], stream, now_ns, self._attributes))
            except OSError:
                self._drop(block.count(b"\n", start, end))
            start = end

    def _drop(self, lines: int) -> None:
        self.dropped_lines += lines
        self._gap_lines += lines

    def _write(self, data: bytes) -> None:
        if self._gap_lines:
            data = self._note(b"[sampan: %d lines are missing here: they could not be written to the log]\n") + data
        if self._fd < 0:
            self._open()
        elif self._size and 0 < self._max_bytes < self._size + len(data):
            self._rotate()
        written = 0
        try:
            written = os.write(self._fd, data)
        finally:
            if written == len(data):
                self._size += written
            else:  # no half object stays behind
                os.ftruncate(self._fd, self._size)
        if written < len(data):
            raise OSError
        self._gap_lines = 0

    def _note(self, text: bytes) -> bytes:
        return record(text % self._gap_lines, "stderr", time.time_ns(), self._attributes)

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.lseek(self._fd, 0, os.SEEK_END)
        if self._size:
            self._mend()

    def _mend(self) -> None:
        """Cut off half an object at the end, which a crash of the machine may have left."""
        size = end = self._size
        while end:
            start = max(0, end - _MEND_BYTES)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end != size:
            os.ftruncate(self._fd, end)
            self._size = end

    def _rotate(self) -> None:
        self._close()
        if self._max_files == 1:
            os.truncate(self._path, 0)
        for number in range(self._max_files - 1, 0, -1):
            newer = f"{self._path}.{number - 1}" if number > 1 else self._path
            if self._compressor:
                self._compressor.move(newer, f"{self._path}.{number}")
            if os.path.exists(newer):
                os.rename(newer, f"{self._path}.{number}")
        if self._compressor:
            self._compressor.rotated()
        self._open()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
