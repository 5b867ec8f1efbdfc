"""`logs`: the json-file log and its rotated predecessors, read again and followed with inotify(7)."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import msgspec

from sampan.engine.launch import log_path
from sampan.errors import Unsupported
from sampan.kernel.inotify import IN, inotify_add_watch, inotify_init
from sampan.units import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.engine.requests import LogsQuery

_READ = 1 << 16
_BLOCK = 1 << 16


class _Line(msgspec.Struct):
    """One object of the log."""

    log: str = ""
    stream: str = "stdout"
    time: str = ""


_decode = msgspec.json.Decoder(_Line).decode


def read_logs(core: Core, container: Container, query: LogsQuery, *, catch_up: bool = False) -> LogReader:
    """Return a container's log, from its beginning, its last lines, or a moment on.

    With `follow`, `catch_up` reads on until there is nothing new, and ends then.
    """
    if container.body.host_config.log_config.type == "none":
        raise Unsupported(
            "configured logging driver does not support reading", "the container runs with --log-driver none"
        )
    return LogReader(container, log_path(core, container), query, catch_up=catch_up)


class LogReader:
    """An iterator over ("stdout" | "stderr", bytes). With `follow` it ends with the container, or at `close`.

    Following one that does not run ends at once, also before its first start, as in Docker.
    """

    def __init__(self, container: Container, path: str, query: LogsQuery, *, catch_up: bool = False) -> None:
        self._container = container
        self._path = path
        self._query = query
        self._catch_up = catch_up
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closed = False
        self._done = False

    @property
    def tty(self) -> bool:
        """Whether the log is sent raw."""
        return self._container.body.tty

    def close(self) -> None:
        """End the iteration; from any thread, also before it has begun."""
        self._closed = True
        self._wake()
        if self._done:
            self._release()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"x")
        except OSError:  # awake already, or closed
            return

    def _release(self) -> None:
        for fd in (self._wake_read, self._wake_write):
            if fd >= 0:
                os.close(fd)
        self._wake_read = self._wake_write = -1

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        try:
            for raw in self._lines():
                piece = self._piece(raw)
                if piece == "later":
                    return
                if isinstance(piece, tuple):
                    yield piece
        finally:
            self._container.on_change.discard(self._wake)
            self._done = True
            self._release()

    def _piece(self, raw: bytes) -> tuple[str, bytes] | str | None:
        """Return what is to be sent of one line of the file; None for nothing, "later" past the `until`."""
        query = self._query
        try:
            line = _decode(raw)
        except msgspec.DecodeError:  # half a line of a crash
            return None
        if query.since_ns or query.until_ns:
            at = parse_timestamp(line.time) if line.time else 0
            if at < query.since_ns:
                return None
            if query.until_ns and at > query.until_ns:
                return "later"
        if not (query.stdout if line.stream == "stdout" else query.stderr):
            return None
        prefix = f"{_padded(line.time)} " if query.timestamps else ""
        return line.stream, (prefix + line.log).encode("utf-8", "surrogateescape")

    def _lines(self) -> Iterator[bytes]:
        """The raw lines: of the files as they are, then, following, of what is written."""
        files = _open_all(self._path)
        try:
            ends = [os.fstat(fd).st_size for fd in files]
            ends[-1:] = [end - _unfinished(fd, end) for fd, end in zip(files[-1:], ends[-1:], strict=True)]
            yield from _last_lines(files, ends, self._query.tail)
            if self._query.follow:
                newest = files.pop() if files else None
                yield from self._followed(newest, ends[-1] if ends else 0)
        finally:
            for fd in files:
                os.close(fd)

    def _followed(self, fd: int | None, position: int) -> Iterator[bytes]:
        """Go on reading, over rotations: a renamed file is read to its end before the new one."""
        self._container.on_change.add(self._wake)
        inotify = inotify_init()
        try:
            inotify_add_watch(inotify, os.path.dirname(self._path), IN.CREATE | IN.MOVED_TO | IN.MODIFY)
            rest = b""
            while not self._closed:
                ended = not self._container.active
                while fd is not None and (data := os.pread(fd, _READ, position)):
                    position += len(data)
                    *lines, rest = (rest + data).split(b"\n")
                    yield from lines
                fresh = _successor(fd, self._path)
                if fresh is not None:
                    fd, position, rest = _replace(fd, fresh), 0, b""
                elif ended or self._catch_up:
                    return
                else:
                    self._wait(inotify)
        finally:
            os.close(inotify)
            if fd is not None:
                os.close(fd)

    def _wait(self, inotify: int) -> None:
        poll = select.poll()
        poll.register(inotify, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        for fd, _ in poll.poll():
            os.read(fd, _READ)


# ---------------------------------------------------------------------------------------------------------- files


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _open_all(path: str) -> list[int]:
    """Open the files of a log, oldest first: ID-json.log.2, .1, and the one written to."""
    files: list[int] = []
    for number in range(1000):
        fd = _open(f"{path}.{number}" if number else path)
        if fd is None:
            if number:
                break
            continue
        files.insert(0, fd)
    return files


def _successor(fd: int | None, path: str) -> int | None:
    """Return the file at `path`, opened, if it is another than `fd`."""
    fresh = _open(path)
    if fresh is None or fd is None:
        return fresh
    if os.path.sameopenfile(fd, fresh):
        os.close(fresh)
        return None
    return fresh


def _replace(fd: int | None, fresh: int) -> int:
    if fd is not None:
        os.close(fd)
    return fresh


def _unfinished(fd: int, end: int) -> int:
    """Return how many bytes at the end belong to a line that is being written."""
    start = max(0, end - _BLOCK)
    data = os.pread(fd, end - start, start)
    return len(data) - (data.rfind(b"\n") + 1)


def _last_lines(files: list[int], ends: list[int], count: int | None) -> Iterator[bytes]:
    """Yield the last `count` lines of all files together, all of them if None."""
    if count == 0:
        return
    starts = [0] * len(files)
    first = 0
    if count is not None:
        for index in range(len(files) - 1, -1, -1):
            starts[index], found = _offset_of_last(files[index], ends[index], count)
            first, count = index, count - found
            if count <= 0:
                break
    for index in range(first, len(files)):
        yield from _lines_between(files[index], starts[index], ends[index])


def _offset_of_last(fd: int, end: int, count: int) -> tuple[int, int]:
    """Return where the last `count` lines before `end` begin, and how many there are."""
    found = 0
    position = end
    while position > 0:
        start = max(0, position - _BLOCK)
        data = os.pread(fd, position - start, start)
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            if start + at + 1 == end:  # the last line's own
                continue
            found += 1
            if found == count:
                return start + at + 1, found
        position = start
    return 0, found + (1 if end else 0)


def _lines_between(fd: int, start: int, end: int) -> Iterator[bytes]:
    rest = b""
    while start < end and (data := os.pread(fd, min(_READ, end - start), start)):
        start += len(data)
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _padded(time: str) -> str:
    """Return a log's time with nine digits after the point: Docker's --timestamps has all of the same width."""
    whole, _, fraction = time.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:<09}Z"
