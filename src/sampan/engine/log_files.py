"""The files of a log: the one written to, and the rotated ones before it, of which some are compressed."""

from __future__ import annotations

import gzip
import os
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.log_forms import Decoder, Piece

_READ = 1 << 16
_TRIES = 10  # to open all between two rotations


class LogPart:
    """One open file, up to where it ended when it was opened."""

    def __init__(self, fd: int, *, compressed: bool) -> None:
        self.fd = fd
        self.compressed = compressed
        self.end = os.fstat(fd).st_size

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """Yield the content from `start`. A compressed file that is damaged ends early."""
        if self.compressed:
            yield from self._unpacked()
            return
        while start < self.end and (data := os.pread(self.fd, min(_READ, self.end - start), start)):
            start += len(data)
            yield data

    def _unpacked(self) -> Iterator[bytes]:
        with open(self.fd, "rb", closefd=False) as file, gzip.GzipFile(fileobj=file) as unpacked:
            file.seek(0)
            try:
                while data := unpacked.read(_READ):
                    yield data
            except (OSError, EOFError, zlib.error):
                return

    def last(self, decoder: Decoder, count: int) -> tuple[int, int, int]:
        """Find the last `count` lines: where to read from, how many lines are too many there, and how many it has."""
        if self.compressed:
            found = sum(decoder.count(data) for data in self.chunks())
            return 0, max(0, found - count), found
        end, found, size = self.whole(decoder), 0, _READ
        while end and found < count:
            start = max(0, end - size)
            before = end
            for at, lines in decoder.back(os.pread(self.fd, end - start, start), begins=not start):
                found += lines
                end = start + at
                if found >= count:
                    break
            if end == before:
                if not start:  # damaged
                    break
                size *= 2
        return end, max(0, found - count), found

    def whole(self, decoder: Decoder) -> int:
        """Return where the last whole line ends: behind it is what is being written, or a crash has left."""
        start = max(0, self.end - 2 * _READ)
        rest = decoder.unfinished(os.pread(self.fd, self.end - start, start))
        if rest is None:
            rest = 0
            for data in self.chunks():
                decoder.count(data)
            rest = decoder.rest()
            decoder.begin()
        return self.end - rest

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def open_file(path: str) -> int | None:
    """Open a file to read; None where there is none."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def open_parts(path: str) -> list[LogPart]:
    """Open the files of a log, oldest first: PATH.2.gz, PATH.1, PATH."""
    parts: list[LogPart] = []
    for _ in range(_TRIES):
        close_parts(parts)
        parts = _opened(path)
        fresh = open_file(path)
        if fresh is None:
            break
        try:
            if parts and os.path.sameopenfile(fresh, parts[-1].fd):
                break
        finally:
            os.close(fresh)
    return parts


def _opened(path: str) -> list[LogPart]:
    parts: list[LogPart] = []
    for number in range(1000):
        name = f"{path}.{number}" if number else path
        compressed = False
        fd = open_file(name)
        if fd is None and number:
            fd, compressed = open_file(f"{name}.gz"), True
        if fd is not None:
            parts.insert(0, LogPart(fd, compressed=compressed))
        elif number:
            break
    return parts


def successors(fd: int | None, path: str) -> list[LogPart]:
    """Open the files that came after `fd`, oldest first: it has been rotated, once or more often; else none."""
    if fd is None:
        return open_parts(path)
    try:
        if os.path.samestat(os.stat(path), os.fstat(fd)):
            return []
    except FileNotFoundError:  # between two names
        return []
    parts = open_parts(path)
    known = [n for n, part in enumerate(parts) if not part.compressed and os.path.sameopenfile(part.fd, fd)]
    if known:
        newer = parts[known[0] + 1 :]
    else:  # it is compressed, or has gone: a compressed file has the time of what it was made of
        last_ns = os.fstat(fd).st_mtime_ns
        newer = [part for part in parts[:-1] if os.fstat(part.fd).st_mtime_ns > last_ns] + parts[-1:]
    close_parts([part for part in parts if part not in newer])
    return newer


def close_parts(parts: list[LogPart]) -> None:
    """Close them all."""
    for part in parts:
        part.close()


def last_lines(parts: list[LogPart], decoder: Decoder, count: int | None) -> Iterator[Piece]:
    """Yield the last `count` lines of all parts together, all of them if None."""
    first, start = 0, 0
    if count is not None:
        first, start = _beginning(parts, decoder, count)
    for part in parts[first:]:
        decoder.begin()
        for data in part.chunks(start):
            yield from decoder.feed(data)
            if decoder.past_until:
                return
        start = 0


def _beginning(parts: list[LogPart], decoder: Decoder, count: int) -> tuple[int, int]:
    """Return in which part, and where there, the last `count` lines begin."""
    start = 0
    for index in range(len(parts) - 1, -1, -1):
        decoder.begin()
        start, decoder.skip, found = parts[index].last(decoder, count)
        decoder.begin()
        if found >= count:
            return index, start
        count -= found
    return 0, start
