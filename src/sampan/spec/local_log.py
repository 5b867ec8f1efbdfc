"""The compact form of a log, which `--log-driver local` keeps: what one read brought is one record.

length (4 bytes, big-endian)   of the data
stream (1 byte)                1 standard output, 2 standard error
three zeros
time   (8 bytes, big-endian)   nanoseconds since 1970
data                           whole lines as they were written, or a piece of one that is longer than 16 KiB
length (4 bytes, big-endian)   once more: the last lines are found from the end
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = struct.Struct(">IBxxxQ")
FOOT = struct.Struct(">I")
AROUND = HEAD.size + FOOT.size
LONGEST = 1 << 16
"""No record's data is longer: what says so is damaged."""

_NUMBERS = {"stdout": 1, "stderr": 2}
_STREAMS = {1: "stdout", 2: "stderr"}


class Record(NamedTuple):
    """`end` is where the next one begins."""

    stream: str
    time_ns: int
    data: bytes
    end: int


def record(stream: str, time_ns: int, data: bytes) -> bytes:
    """Return a record of what a stream brought."""
    return HEAD.pack(len(data), _NUMBERS[stream], time_ns) + data + FOOT.pack(len(data))


def records(buffer: bytes) -> Iterator[Record]:
    """Yield those that are whole at the beginning of `buffer`; what is damaged ends it."""
    at = 0
    while found := _record_at(buffer, at):
        yield found
        at = found.end


def _record_at(buffer: bytes, at: int) -> Record | None:
    if len(buffer) - at < AROUND:
        return None
    length, number, time_ns = HEAD.unpack_from(buffer, at)
    begin = at + HEAD.size
    end = begin + length
    if length > LONGEST or number not in _STREAMS or end + FOOT.size > len(buffer):
        return None
    if FOOT.unpack_from(buffer, end)[0] != length:
        return None
    return Record(_STREAMS[number], time_ns, buffer[begin:end], end + FOOT.size)


def record_before(buffer: bytes, end: int) -> tuple[int, Record] | None:
    """Return where the record begins that ends at `end`, and the record; None if none that is whole does."""
    if end < AROUND:
        return None
    at = end - AROUND - int(FOOT.unpack_from(buffer, end - FOOT.size)[0])
    found = _record_at(buffer, at) if at >= 0 else None
    return (at, found) if found and found.end == end else None


def lines_in(data: bytes) -> int:
    """Count a record's lines; a piece of one counts as one."""
    return data.count(b"\n") + (not data.endswith(b"\n"))
