"""The log of `--log-driver local`: records of `spec.local_log`, in files that are rotated as those of LogFile are."""

from __future__ import annotations

import os
import time

from sampan.spec.local_log import LONGEST, record, records
from sampan.supervise.lines import Lines
from sampan.supervise.logfile import LogFile

_MEND_BYTES = 2 * LONGEST


class LocalFile(LogFile):
    """Keeps the bytes as they come: no text is decoded, and one read is one record."""

    def write(self, stream: str, data: bytes | bytearray | memoryview) -> None:
        """Log what came on a stream just now."""
        lines = self._lines.get(stream)
        if lines is None:
            lines = self._lines[stream] = Lines()
        data = bytes(data)
        block = lines.block(data, escaping=False)
        if block is None:
            self._append(stream, lines.feed(data))
        elif block:
            self._append(stream, [block])

    def _append(self, stream: str, lines: list[bytes]) -> None:
        now_ns = time.time_ns()
        for line in lines:
            try:
                self._write(record(stream, now_ns, line))
            except OSError:
                self._drop(line.count(b"\n") or 1)

    def _note(self, text: bytes) -> bytes:
        return record("stderr", time.time_ns(), text % self._gap_lines)

    def _mend(self) -> None:
        """Cut off half a record at the end, which a crash of the machine may have left."""
        end = 0
        while data := os.pread(self._fd, _MEND_BYTES, end):
            whole = 0
            for found in records(data):
                whole = found.end
            if not whole:
                break
            end += whole
        if end != self._size:
            os.ftruncate(self._fd, end)
            self._size = end
