"""`logs` of --log-driver journald: what the journal has of a container, by journalctl(1)."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.engine.log_forms import details, timestamp
from sampan.engine.log_reader import Reader
from sampan.kernel.process import pidfd_open
from sampan.spec.decoding import decode_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.log_forms import Piece
    from sampan.engine.registry import Container
    from sampan.engine.requests import LogsQuery

_READ = 1 << 16
_KNOWN = {
    "MESSAGE", "MESSAGE_ID", "PRIORITY", "CODE_FILE", "CODE_LINE", "CODE_FUNC", "ERRNO", "SYSLOG_FACILITY",
    "SYSLOG_IDENTIFIER", "SYSLOG_PID", "SYSLOG_TIMESTAMP", "CONTAINER_NAME", "CONTAINER_ID", "CONTAINER_ID_FULL",
    "CONTAINER_TAG", "IMAGE_NAME", "CONTAINER_PARTIAL_MESSAGE", "CONTAINER_LOG_EPOCH",
}  # fmt: skip
"""Fields that are no attribute of a line's: what is left is what the driver's options have picked."""


class _Entry(msgspec.Struct, rename={"cursor": "__CURSOR", "realtime": "__REALTIME_TIMESTAMP"}):
    """An entry of the journal; a field that is no text comes as a list of bytes."""

    MESSAGE: str | list[int] | None = ""
    PRIORITY: str = "6"
    SYSLOG_TIMESTAMP: str = ""
    CONTAINER_PARTIAL_MESSAGE: str = ""
    cursor: str = ""
    realtime: str = "0"  # microseconds


_decode = msgspec.json.Decoder(_Entry).decode


class JournalReader(Reader):
    """Reads the journal, a line at a time."""

    def __init__(self, container: Container, program: str, query: LogsQuery, *, catch_up: bool = False) -> None:
        super().__init__(container, query)
        self._program = program
        self._follow = query.follow and not catch_up
        self._cursor = ""
        self._past_until = False

    def __iter__(self) -> Iterator[Piece]:
        """Yield ("stdout" | "stderr", a line)."""
        query = self._query
        with self._listening() as bell:
            lines = "all" if query.tail is None else str(query.tail)
            if self._follow and self._container.active:
                yield from self._run(bell.fd, f"--lines={lines}", "--follow")
                # What came between the last look and the container's end.
                lines = "all" if self._cursor or query.tail is None else lines
            if not self._closed and not self._past_until:
                os.waitpid(self._spawn(-1, "--sync"), 0)
                yield from self._run(bell.fd, f"--lines={lines}", *self._after())

    def _after(self) -> list[str]:
        return [f"--after-cursor={self._cursor}"] if self._cursor else []

    def _run(self, bell: int, *words: str) -> Iterator[Piece]:
        """Run journalctl until it ends, or, following, until the container has."""
        since, until = self._query.since_ns, self._query.until_ns
        bounds = [f"--since=@{since // 10**9}"] * bool(since) + [f"--until=@{until // 10**9 + 1}"] * bool(until)
        matching = ("--output=json", "--all", "--no-pager", "--quiet", *bounds)
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            pid = self._spawn(write, *matching, *words, f"CONTAINER_ID_FULL={self._container.id}")
        finally:
            os.close(write)
        pidfd = pidfd_open(pid)
        try:
            yield from self._entries(read, bell, follow="--follow" in words)
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(pidfd)
            os.close(read)

    def _spawn(self, output: int, *words: str) -> int:
        """Start it without forking: the server has threads, and posix_spawn uses vfork."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            actions = [
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, null if output < 0 else output, 1),
                (os.POSIX_SPAWN_DUP2, null, 2),
            ]
            return os.posix_spawn(self._program, ["journalctl", *words], dict(os.environ), file_actions=actions)
        finally:
            os.close(null)

    def _entries(self, read: int, bell: int, *, follow: bool) -> Iterator[Piece]:
        poll = select.poll()
        poll.register(read, select.POLLIN)
        poll.register(bell, select.POLLIN)
        rest = b""
        while not self._closed:
            ready = dict(poll.poll())
            if bell in ready:
                os.read(bell, _READ)
                if follow and not self._container.active:
                    return
            if read not in ready:
                continue
            data = os.read(read, _READ)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                piece = self._piece(line)
                if piece:
                    yield piece
                if self._past_until:
                    return

    def _piece(self, raw: bytes) -> Piece | None:
        try:
            entry = _decode(raw)
        except msgspec.DecodeError:  # somebody else's, in the container's name
            return None
        self._cursor = entry.cursor
        query = self._query
        at = entry.SYSLOG_TIMESTAMP or timestamp(int(entry.realtime) * 1000)
        if query.since_ns and at < timestamp(query.since_ns):
            return None
        if query.until_ns and at > timestamp(query.until_ns):
            self._past_until = True
            return None
        stream = "stderr" if entry.PRIORITY == "3" else "stdout"
        if not getattr(query, stream):
            return None
        prefix = f"{at} " if query.timestamps else ""
        if query.details:
            prefix += f"{details(_attributes(raw))} "
        text = entry.MESSAGE or ""
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
        return stream, prefix.encode() + data + (b"" if entry.CONTAINER_PARTIAL_MESSAGE else b"\n")


def _attributes(raw: bytes) -> dict[str, str]:
    # A field may be a list: of bytes, or of several values, which whoever writes to the journal may have given it.
    fields: dict[str, object] = decode_json(raw, dict[str, Any])
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, str) and name not in _KNOWN and not name.startswith("_")
    }
