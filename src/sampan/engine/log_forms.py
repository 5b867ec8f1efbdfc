"""The forms in which logs are kept, read again: many lines at a time, for a million of them are no rarity.

A decoder is fed a file in pieces of any size and gives ("stdout" | "stderr", text), each one or more whole lines.
"""

from __future__ import annotations

import itertools
import time
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote_plus

import msgspec

from sampan.spec import local_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sampan.engine.requests import LogsQuery

Piece = tuple[str, bytes]


class Decoder(Protocol):
    """Reads one form."""

    past_until: bool
    """Whether a line was met that is later than the last one wanted: all that follow are."""
    skip: int
    """How many of the lines to come are left out."""

    def feed(self, data: bytes) -> list[Piece]:
        """Return what is wanted of the lines that are whole with `data`."""

    def count(self, data: bytes) -> int:
        """Return how many lines are whole with `data`: instead of `feed`."""

    def back(self, data: bytes, *, begins: bool) -> Iterator[tuple[int, int]]:
        """Yield, from the end, where a line or a record begins, and how many lines it has.

        `data` ends where one ends; `begins` says that one begins where it does.
        """

    def unfinished(self, data: bytes) -> int | None:
        """Return how many bytes at the end of a file, of which `data` is the end, are no whole line; None: unclear."""

    def begin(self) -> None:
        """Forget half a line: another file begins."""

    def rest(self) -> int:
        """Return how many bytes of half a line are kept."""


class _Line(msgspec.Struct, gc=False):
    """One object of the json-file form."""

    log: str = ""
    stream: str = "stdout"
    time: str = ""
    attrs: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(_Line)
_decode, _decode_lines = _decoder.decode, _decoder.decode_lines
_stream_of = attrgetter("stream")
_first = itemgetter(0)


class JsonDecoder:
    """Docker's json-file form: an object a line."""

    def __init__(self, query: LogsQuery) -> None:
        self.past_until = False
        self.skip = 0
        self._query = query
        self._rest = b""
        self._both = query.stdout and query.stderr

    def begin(self) -> None:
        """Forget half a line: another file begins."""
        self._rest = b""

    def rest(self) -> int:
        """Return how many bytes of half a line are kept."""
        return len(self._rest)

    def _whole(self, data: bytes) -> bytes:
        data = self._rest + data if self._rest else data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        return data[:end]

    def count(self, data: bytes) -> int:
        """Return how many lines are whole with `data`."""
        return self._whole(data).count(b"\n")

    def back(self, data: bytes, *, begins: bool) -> Iterator[tuple[int, int]]:
        """Yield where each line begins, from the end."""
        at = len(data) - 1
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            yield at + 1, 1
        if begins and data:
            yield 0, 1

    def unfinished(self, data: bytes) -> int | None:
        """Return how many bytes follow the last newline."""
        end = data.rfind(b"\n") + 1
        return len(data) - end if end else None

    def feed(self, data: bytes) -> list[Piece]:
        """Return what is wanted of the lines that are whole with `data`."""
        whole = self._whole(data)
        if self.skip:
            whole = self._skipped(whole)
        if not whole:
            return []
        try:
            lines = _decode_lines(whole)
        except msgspec.DecodeError:
            lines = _readable(whole)
        if self._query.since_ns or self._query.until_ns:
            lines = self._in_time(lines)
        if not self._both:
            wanted = "stdout" if self._query.stdout else "stderr"
            lines = [line for line in lines if line.stream == wanted]
        return [(stream, self._text(group)) for stream, group in _by_stream(lines)]

    def _skipped(self, whole: bytes) -> bytes:
        start = 0
        while self.skip and start < len(whole):
            start = whole.find(b"\n", start) + 1
            self.skip -= 1
        return whole[start:]

    def _in_time(self, lines: list[_Line]) -> list[_Line]:
        # Times of the same width are in the order of their texts.
        since = timestamp(self._query.since_ns)
        lines = [line for line in lines if _padded(line.time) >= since]
        if self._query.until_ns:
            until = timestamp(self._query.until_ns)
            early = [line for line in lines if _padded(line.time) <= until]
            self.past_until = len(early) < len(lines)
            return early
        return lines

    def _text(self, lines: Iterable[_Line]) -> bytes:
        query = self._query
        if query.timestamps and query.details:
            parts = [f"{_padded(line.time)} {details(line.attrs)} {line.log}" for line in lines]
        elif query.timestamps:
            parts = [f"{_padded(line.time)} {line.log}" for line in lines]
        elif query.details:
            parts = [f"{details(line.attrs)} {line.log}" for line in lines]
        else:
            parts = [line.log for line in lines]
        return "".join(parts).encode("utf-8", "surrogateescape")


def _readable(whole: bytes) -> list[_Line]:
    """Decode one by one, and leave out half a line of a crash."""
    found = []
    for raw in whole.splitlines():
        try:
            found.append(_decode(raw))
        except msgspec.DecodeError:
            continue
    return found


def _by_stream(lines: list[_Line]) -> Iterable[tuple[str, Iterable[_Line]]]:
    if len({line.stream for line in lines}) <= 1:
        return ((line.stream, lines) for line in lines[:1])
    return itertools.groupby(lines, _stream_of)


class LocalDecoder:
    """The compact form of `spec.local_log`."""

    def __init__(self, query: LogsQuery) -> None:
        self.past_until = False
        self.skip = 0
        self._query = query
        self._rest = b""
        self._streams = {name for name in ("stdout", "stderr") if getattr(query, name)}

    def begin(self) -> None:
        """Forget half a record: another file begins."""
        self._rest = b""

    def rest(self) -> int:
        """Return how many bytes of half a record are kept."""
        return len(self._rest)

    def _records(self, data: bytes) -> list[local_log.Record]:
        data = self._rest + data if self._rest else data
        found = list(local_log.records(data))
        self._rest = data[found[-1].end :] if found else data
        return found

    def count(self, data: bytes) -> int:
        """Return how many lines are whole with `data`."""
        return sum(local_log.lines_in(record.data) for record in self._records(data))

    def back(self, data: bytes, *, begins: bool) -> Iterator[tuple[int, int]]:
        """Yield where each record begins, from the end, and how many lines it has."""
        del begins  # a record says itself how long it is
        end = len(data)
        while found := local_log.record_before(data, end):
            end = found[0]
            yield end, local_log.lines_in(found[1].data)

    def unfinished(self, data: bytes) -> int | None:
        """Return 0 where a record ends at the end."""
        return 0 if local_log.record_before(data, len(data)) else None

    def feed(self, data: bytes) -> list[Piece]:
        """Return what is wanted of the records that are whole with `data`."""
        query, found = self._query, []
        for record in self._records(data):
            text = self._skipped(record.data) if self.skip else record.data
            if query.until_ns and record.time_ns > query.until_ns:
                self.past_until = True
                break
            if text and record.time_ns >= query.since_ns and record.stream in self._streams:
                found.append((record.stream, self._text(record.time_ns, text)))
        return [(stream, b"".join([text for _, text in group])) for stream, group in itertools.groupby(found, _first)]

    def _skipped(self, text: bytes) -> bytes:
        count = local_log.lines_in(text)
        if count <= self.skip:
            self.skip -= count
            return b""
        text = text.split(b"\n", self.skip)[-1]
        self.skip = 0
        return text

    def _text(self, time_ns: int, text: bytes) -> bytes:
        query = self._query
        prefix = f"{timestamp(time_ns)} ".encode() if query.timestamps else b""
        if query.details:
            prefix += b" "
        return prefixed(prefix, text) if prefix else text


def prefixed(prefix: bytes, text: bytes) -> bytes:
    """Put `prefix` before each line."""
    return prefix + text[:-1].replace(b"\n", b"\n" + prefix) + text[-1:]


FORMS: dict[str, Callable[[LogsQuery], Decoder]] = {"json": JsonDecoder, "local": LocalDecoder}


def timestamp(ns: int) -> str:
    """Return a time as logs have it: RFC 3339 in UTC with nine digits after the point."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09}Z"


def details(attributes: dict[str, str] | None) -> str:
    """Return `k=v,k2=v2` as Docker's --details: sorted, and escaped as in a query."""
    pairs = sorted((attributes or {}).items())
    return ",".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs)


def _padded(time: str) -> str:
    """Return a log's time with nine digits after the point: Docker's --timestamps has all of the same width."""
    if len(time) == _WIDTH:
        return time
    whole, _, fraction = time.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:<09}Z"


_WIDTH = len("1970-01-01T00:00:00.000000000Z")
