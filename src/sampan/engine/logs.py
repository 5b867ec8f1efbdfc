"""`logs`: a container's log and its rotated predecessors, read again and followed with inotify(7)."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from sampan.engine import log_options
from sampan.engine.journal import JournalReader
from sampan.engine.log_files import close_parts, last_lines, open_parts, successors
from sampan.engine.log_forms import FORMS
from sampan.engine.log_reader import Reader
from sampan.errors import Unsupported
from sampan.kernel.inotify import IN, inotify_add_watch, inotify_init

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.log_files import LogPart
    from sampan.engine.log_forms import Decoder, Piece
    from sampan.engine.registry import Container
    from sampan.engine.requests import LogsQuery, LogStream

_READ = 1 << 16
_GATHER_S = 0.01


def read_logs(core: Core, container: Container, query: LogsQuery, *, catch_up: bool = False) -> LogStream:
    """Return a container's log, from its beginning, its last lines, or a moment on.

    With `follow`, `catch_up` reads on until there is nothing new, and ends then.
    """
    file = log_options.log_file(core, container)
    if container.body.host_config.log_config.type == "journald":
        program = log_options.journalctl()
        if program and not (file.path and os.path.exists(file.path)):
            return JournalReader(container, program, query, catch_up=catch_up)
    if file.path is None:
        raise Unsupported("configured logging driver does not support reading", _why_not(container))
    return LogReader(container, file.path, query, form=file.form, catch_up=catch_up)


def _why_not(container: Container) -> str:
    driver = container.body.host_config.log_config.type
    if driver == "none":
        return "the container runs with --log-driver none"
    return f"the container runs with --log-driver {driver} --log-opt cache-disabled=true"


class LogReader(Reader):
    """Reads the files of a log.

    Following one that does not run ends at once, also before its first start, as in Docker.
    """

    def __init__(
        self, container: Container, path: str, query: LogsQuery, *, form: str = "json", catch_up: bool = False
    ) -> None:
        super().__init__(container, query)
        self._path = path
        self._form = form
        self._catch_up = catch_up
        self._woken = 0.0

    def __iter__(self) -> Iterator[Piece]:
        """Yield ("stdout" | "stderr", whole lines)."""
        yield from self._read()

    def _read(self) -> Iterator[Piece]:
        """Read the files as they are, then, following, what is written."""
        decoder = FORMS[self._form](self._query)
        parts = open_parts(self._path)
        try:
            yield from last_lines(parts, decoder, self._query.tail)
            if self._query.follow and not decoder.past_until:
                newest = parts.pop() if parts else None
                close_parts(parts)  # a file that goes would else keep its place on the disk
                parts.clear()
                yield from self._followed(decoder, newest.fd if newest else None, newest.end if newest else 0)
        finally:
            close_parts(parts)

    def _followed(self, decoder: Decoder, fd: int | None, position: int) -> Iterator[Piece]:
        """Go on reading, over rotations: a renamed file is read to its end before those that came after it."""
        inotify = inotify_init()
        newer: list[LogPart] = []
        try:
            with self._listening() as bell:
                inotify_add_watch(inotify, os.path.dirname(self._path), IN.CREATE | IN.MOVED_TO | IN.MODIFY)
                while not self._closed:
                    ended = not self._container.active
                    newer = successors(fd, self._path)
                    while fd is not None and (data := os.pread(fd, _READ, position)):
                        position += len(data)
                        yield from decoder.feed(data)
                        if decoder.past_until:
                            return
                    if newer:
                        yield from last_lines(newer[:-1], decoder, None)
                        fd, position = _replace(fd, newer), 0
                        decoder.begin()
                    elif ended or self._catch_up:
                        return
                    else:
                        self._wait(inotify, bell.fd)
        finally:
            os.close(inotify)
            close_parts(newer)
            if fd is not None:
                os.close(fd)

    def _wait(self, inotify: int, bell: int) -> None:
        """Wait for something new. Where much comes, wait a little longer and read much at once."""
        poll = select.poll()
        poll.register(bell, select.POLLIN)
        if time.monotonic() - self._woken < _GATHER_S and poll.poll(_GATHER_S * 1000):
            os.read(bell, _READ)
            return
        poll.register(inotify, select.POLLIN)
        for fd, _ in poll.poll():
            os.read(fd, _READ)
        self._woken = time.monotonic()


def _replace(fd: int | None, newer: list[LogPart]) -> int:
    """Close what is read to its end; return the newest."""
    if fd is not None:
        os.close(fd)
    newest = newer.pop()
    close_parts(newer)
    newer.clear()
    return newest.fd
