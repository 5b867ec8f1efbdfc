"""`logs`: a container's log and its rotated predecessors, read again and followed with inotify(7)."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from sampan.engine.launch import log_path
from sampan.engine.log_files import close_parts, last_lines, open_file, open_parts
from sampan.engine.log_forms import FORMS
from sampan.errors import Unsupported
from sampan.kernel.inotify import IN, inotify_add_watch, inotify_init

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.log_forms import Decoder, Piece
    from sampan.engine.registry import Container
    from sampan.engine.requests import LogsQuery

_READ = 1 << 16
_GATHER_S = 0.01


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
    """An iterator over ("stdout" | "stderr", whole lines). With `follow` it ends with the container, or at `close`.

    Following one that does not run ends at once, also before its first start, as in Docker.
    """

    def __init__(
        self, container: Container, path: str, query: LogsQuery, *, form: str = "json", catch_up: bool = False
    ) -> None:
        self._container = container
        self._path = path
        self._form = form
        self._query = query
        self._catch_up = catch_up
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._woken = 0.0
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

    def __iter__(self) -> Iterator[Piece]:
        """Yield ("stdout" | "stderr", whole lines)."""
        try:
            yield from self._read()
        finally:
            self._container.on_change.discard(self._wake)
            self._done = True
            self._release()

    def _read(self) -> Iterator[Piece]:
        """Read the files as they are, then, following, what is written."""
        decoder = FORMS[self._form](self._query)
        parts = open_parts(self._path)
        try:
            yield from last_lines(parts, decoder, self._query.tail)
            if self._query.follow and not decoder.past_until:
                newest = parts.pop() if parts else None
                yield from self._followed(decoder, newest.fd if newest else None, newest.end if newest else 0)
        finally:
            close_parts(parts)

    def _followed(self, decoder: Decoder, fd: int | None, position: int) -> Iterator[Piece]:
        """Go on reading, over rotations: a renamed file is read to its end before the new one."""
        self._container.on_change.add(self._wake)
        inotify = inotify_init()
        try:
            inotify_add_watch(inotify, os.path.dirname(self._path), IN.CREATE | IN.MOVED_TO | IN.MODIFY)
            while not self._closed:
                ended = not self._container.active
                while fd is not None and (data := os.pread(fd, _READ, position)):
                    position += len(data)
                    yield from decoder.feed(data)
                    if decoder.past_until:
                        return
                fresh = _successor(fd, self._path)
                if fresh is not None:
                    fd, position = _replace(fd, fresh), 0
                    decoder.begin()
                elif ended or self._catch_up:
                    return
                else:
                    self._wait(inotify)
        finally:
            os.close(inotify)
            if fd is not None:
                os.close(fd)

    def _wait(self, inotify: int) -> None:
        """Wait for something new. Where much comes, wait a little longer and read much at once."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if time.monotonic() - self._woken < _GATHER_S and poll.poll(_GATHER_S * 1000):
            os.read(self._wake_read, _READ)
            return
        poll.register(inotify, select.POLLIN)
        for fd, _ in poll.poll():
            os.read(fd, _READ)
        self._woken = time.monotonic()


def _successor(fd: int | None, path: str) -> int | None:
    """Return the file at `path`, opened, if it is another than `fd`."""
    fresh = open_file(path)
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
