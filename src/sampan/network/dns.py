"""DNS messages: a client's query read, our answers written, a server's answer recognised. RFC 1035; EDNS: RFC 6891.

Nothing here follows a compression pointer: a query has none that counts, and what servers answer is passed on as it
came. Names are bytes in lower case with dots between their labels, without one at the end.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

# Plain integers: what an IntEnum does in Python code would stay in every shim's own pages.
A, PTR, AAAA, OPT, IXFR, AXFR, ANY = 1, 12, 28, 41, 251, 252, 255
IN = 1
NO_ERROR, FORM_ERROR, SERVER_FAILURE, NAME_ERROR, NOT_IMPLEMENTED, REFUSED, BAD_VERSION = 0, 1, 2, 3, 4, 5, 16

LARGEST_UDP = 4096
"""Bytes of an answer that we take, and let clients ask for, in one datagram."""

LARGEST_TCP = 65535
SMALLEST_UDP = 512

_HEADER = struct.Struct(">6H")
_PAIR = struct.Struct(">HH")
_RECORD = struct.Struct(">HHHIH")
_FIXED = struct.Struct(">HHIH")
_POINTER = 0xC0
_QUESTION_AT = 0xC00C  # a pointer to the question's name
_RESPONSE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE, _OPCODE = 0x8000, 0x0200, 0x0100, 0x0080, 0x7800
_LONGEST_NAME = 255
_RECORDS = 64
_PLAIN = bytes(range(0x21, 0x7F)).replace(b".", b"")


class Query(NamedTuple):
    """A client's question."""

    id: int
    flags: int
    question: bytes  # as it came: name, type, class
    name: bytes  # b"" also where a label holds what is in no name of ours: a dot, a space, what is not ASCII
    type: int
    klass: int
    edns: int | None  # the version of its OPT record
    limit: int  # bytes that the client takes in a datagram
    opt_at: int  # where in the message that limit is written; 0: nowhere

    @property
    def opcode(self) -> int:
        """0 is a query proper."""
        return (self.flags & _OPCODE) >> 11


def read_query(data: bytes) -> Query | None:
    """Read a message from a client; None where it is an answer, which is never answered. Raises InvalidInput."""
    if len(data) < _HEADER.size:
        raise InvalidInput("can't read DNS message: it has no header")
    id, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        return None
    if questions != 1 or answers + authorities + additional > _RECORDS:
        raise InvalidInput("can't read DNS query: it has not one question")
    name, at = _question_name(data)
    if at + 4 > len(data):
        raise InvalidInput("can't read DNS query: its question ends early")
    type, klass = _PAIR.unpack_from(data, at)
    at += 4
    question = data[_HEADER.size : at]
    edns, limit, opt_at = None, SMALLEST_UDP, 0
    for _ in range(answers + authorities + additional):
        kind, opt_at_, ttl, at = _skip_record(data, at)
        if kind == OPT:
            if opt_at:
                raise InvalidInput("can't read DNS query: it has two OPT records")
            edns, opt_at = ttl >> 16 & 0xFF, opt_at_
            limit = max(SMALLEST_UDP, min(_PAIR.unpack_from(data, opt_at - 2)[1], LARGEST_UDP))
    return Query(id, flags, question, name, type, klass, edns, limit, opt_at)


def _question_name(data: bytes) -> tuple[bytes, int]:
    labels, at, plain = [], _HEADER.size, True
    while True:
        if at >= len(data):
            raise InvalidInput("can't read DNS query: its name ends early")
        length = data[at]
        at += 1
        if not length:
            break
        if length >= 0x40:  # a pointer could only lead into the header
            raise InvalidInput("can't read DNS query: a label of its name is too long")
        label = data[at : at + length]
        at += length
        plain = plain and not label.translate(None, _PLAIN)
        labels.append(label)
    if at - _HEADER.size > _LONGEST_NAME:
        raise InvalidInput("can't read DNS query: its name is too long")
    return b".".join(labels).lower() if plain else b"", at


def _skip_record(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Return a record's type, where its class is written, its TTL, and where it ends."""
    while at < len(data) and data[at]:
        if data[at] >= _POINTER:
            at += 1
            break
        at += 1 + data[at]
    at += 1
    if at + _FIXED.size > len(data):
        raise InvalidInput("can't read DNS query: a record ends early")
    type, _, ttl, length = _FIXED.unpack_from(data, at)
    end = at + _FIXED.size + length
    if end > len(data):
        raise InvalidInput("can't read DNS query: a record ends early")
    return type, at + 2, ttl, end


# ------------------------------------------------------------------------------------------------------- answers


def record(type: int, value: bytes, ttl_s: int) -> bytes:
    """Return a record about the question's name."""
    return _RECORD.pack(_QUESTION_AT, type, IN, ttl_s, len(value)) + value


def answer(query: Query, records: Iterable[bytes] = (), code: int = NO_ERROR, limit: int = LARGEST_TCP) -> bytes:
    """Answer with `records`: with as many as fit into `limit` bytes, and the truncation flag where that's not all."""
    tail = b""
    if query.edns is not None:
        tail = b"\0" + _FIXED.pack(OPT, LARGEST_UDP, (code >> 4) << 24, 0)
    left = limit - _HEADER.size - len(query.question) - len(tail)
    taken = []
    flags = _RESPONSE | _RECURSION_AVAILABLE | query.flags & (_OPCODE | _RECURSION_DESIRED) | code & 0xF
    for each in records:
        left -= len(each)
        if left < 0:
            flags |= _TRUNCATED
            break
        taken.append(each)
    header = _HEADER.pack(query.id, flags, 1, len(taken), 0, 1 if tail else 0)
    return b"".join((header, query.question, *taken, tail))


def truncated(query: Query) -> bytes:
    """Answer that there is more than a datagram can hold: the client asks again over TCP."""
    data = bytearray(answer(query))
    data[2] |= _TRUNCATED >> 8
    return bytes(data)


def malformed(data: bytes) -> bytes | None:
    """Answer what can't be read, if it has a header and is a query."""
    if len(data) < _HEADER.size or data[2] & _RESPONSE >> 8:
        return None
    id, flags = _PAIR.unpack_from(data)
    flags = _RESPONSE | _RECURSION_AVAILABLE | flags & (_OPCODE | _RECURSION_DESIRED) | FORM_ERROR
    return _HEADER.pack(id, flags, 0, 0, 0, 0)


def name(text: str) -> bytes:
    """Return a name as messages have it. Raises InvalidInput."""
    wire = b""
    for label in text.encode("ascii", "replace").split(b"."):
        if not 0 < len(label) < 0x40:
            raise InvalidInput(f"can't write {text!r} as a DNS name: a label has 1 to 63 bytes")
        wire += bytes((len(label),)) + label
    if len(wire) >= _LONGEST_NAME:
        raise InvalidInput(f"can't write {text!r} as a DNS name: it is too long")
    return wire + b"\0"


# ----------------------------------------------------------------------------------------------------- forwarding


def forwarded(query: Query, data: bytes, id: int) -> bytes:
    """Return a client's message for another server: of another id, asking for no larger datagrams than we take."""
    message = bytearray(data)
    message[:2] = id.to_bytes(2, "big")
    if query.opt_at:
        message[query.opt_at : query.opt_at + 2] = query.limit.to_bytes(2, "big")
    return bytes(message)


def is_answer(data: bytes, id: int, query: Query) -> bool:
    """Whether `data` answers what was forwarded under `id`; what does not may be anybody's."""
    if len(data) < _HEADER.size:
        return False
    its_id, flags, questions = struct.unpack_from(">3H", data)
    if its_id != id or not flags & _RESPONSE or (flags ^ query.flags) & _OPCODE:
        return False
    if not questions:  # some servers leave out what they can't read
        return bool(flags & 0xF)
    asked, echoed = query.question, data[_HEADER.size : _HEADER.size + len(query.question)]
    return questions == 1 and echoed[-4:] == asked[-4:] and echoed[:-4].lower() == asked[:-4].lower()


def code(data: bytes) -> int:
    """Return an answer's response code, without EDNS's upper bits."""
    return data[3] & 0xF


def returned(data: bytes, query: Query) -> bytes:
    """Return a server's answer as the client gets it."""
    return query.id.to_bytes(2, "big") + data[2:]
