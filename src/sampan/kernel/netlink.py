"""Netlink sockets: several requests in one message with their acknowledgements, and dumps; netlink(7).

Nothing here knows what is asked: the codecs (`rtnetlink`, …) make the requests and read the answers.
"""

from __future__ import annotations

import _socket
import errno
import struct
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import SyscallError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSGERR_ATTR_MSG = 1

NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_AT_ONCE = 64  # requests: their acknowledgements wait in the receive buffer, which holds some 250
_RECEIVE_BYTES = 64 << 10  # the kernel makes no part of a dump larger than 32 KiB
_DUMP_TRIES = 10


class Request(NamedTuple):
    """One message to the kernel. `call` and `about` name it, and its object, in an error."""

    type: int
    flags: int
    body: bytes
    call: str
    about: str = ""


class Message(NamedTuple):
    """One message of the kernel's."""

    type: int
    flags: int
    sequence: int
    body: bytes


class NetlinkError(SyscallError):
    """The kernel refused a request: the `index`th of its batch. `words` are the kernel's own about why; often none."""

    def __init__(self, error: int, request: Request, words: str = "", index: int = 0) -> None:
        super().__init__(error, request.call, request.about or None)
        self.words = words
        self.index = index

    def __str__(self) -> str:
        """Put the kernel's words after errno's."""
        text = super().__str__()
        return f"{text}: {self.words[:1].lower()}{self.words[1:].rstrip('. ')}" if self.words else text


def attribute(type: int, data: bytes) -> bytes:
    """Encode an attribute: length, type, data, padding to four bytes."""
    return _ATTRIBUTE.pack(4 + len(data), type) + data + bytes(-len(data) % 4)


def nested(type: int, *attributes: bytes) -> bytes:
    """Encode an attribute whose data are attributes."""
    return attribute(type | NLA_F_NESTED, b"".join(attributes))


def text(type: int, value: str) -> bytes:
    """Encode an attribute that is a string."""
    return attribute(type, value.encode() + b"\0")


def number(type: int, value: int) -> bytes:
    """Encode an attribute that is a 32-bit number of this machine's byte order."""
    return attribute(type, struct.pack("=I", value))


def each_attribute(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the type and data of each attribute from `start` on; what is cut short is left out."""
    at = start
    while at + 4 <= len(data):
        length, type = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            return
        yield type & _NLA_TYPE_MASK, data[at + 4 : at + length]
        at += length + 3 & ~3


def attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """Decode the attributes from `start` on, by their types."""
    return dict(each_attribute(data, start))


def each_message(data: bytes) -> Iterator[Message]:
    """Yield the messages of what was received at once."""
    at = 0
    while at + 16 <= len(data):
        length, type, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if length < 16:
            return
        yield Message(type, flags, sequence, data[at + 16 : at + length])
        at += length + 3 & ~3


def encode(request: Request, sequence: int, flags: int = 0) -> bytes:
    """Encode one request with its number in the conversation."""
    header = _HEADER.pack(16 + len(request.body), request.type, request.flags | flags | NLM_F_REQUEST, sequence, 0)
    return header + request.body + bytes(-len(request.body) % 4)


def refusal(message: Message) -> tuple[int, str]:
    """Read an NLMSG_ERROR: (errno, the kernel's words); an acknowledgement is errno 0."""
    (error,) = struct.unpack_from("=i", message.body)
    if not message.flags & NLM_F_ACK_TLVS:
        return -error, ""
    # The refused request follows: its header alone when it is capped, else all of it.
    (length,) = struct.unpack_from("=I", message.body, 4)
    start = 4 + (16 if message.flags & NLM_F_CAPPED else length + 3 & ~3)
    words = attributes(message.body, start).get(NLMSGERR_ATTR_MSG, b"")
    return -error, words.rstrip(b"\0").decode(errors="replace")


def _refused(request: Request, message: Message, index: int = 0) -> NetlinkError:
    error, words = refusal(message)
    return NetlinkError(error, request, words, index)


class Netlink:
    """A netlink socket. It stays in the network namespace of the thread that made it, whoever uses it later."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        # _socket: nothing more is needed, and socket would be the door's only import of that weight.
        self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, protocol)
        for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK):
            try:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            except OSError as e:  # before Linux 4.12 and 4.20: refusals without words, dumps that are not filtered
                if e.errno != errno.ENOPROTOOPT:
                    raise
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; once more does nothing."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def batch(self, requests: Sequence[Request]) -> None:
        """Send requests together and wait for all their acknowledgements.

        The kernel goes on after a refused one: what relies on an earlier request's success belongs in a later batch.
        Raises NetlinkError for the first that was refused, when all are done.
        """
        for start in range(0, len(requests), _AT_ONCE):
            self._batch(requests[start : start + _AT_ONCE], start)

    def _batch(self, requests: Sequence[Request], start: int) -> None:
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(b"".join(encode(r, first + n, NLM_F_ACK) for n, r in enumerate(requests)))
        refused: NetlinkError | None = None
        waiting = len(requests)
        while waiting:
            for message in each_message(self._receive()):
                place = message.sequence - first
                if message.type != NLMSG_ERROR or not 0 <= place < len(requests):
                    continue
                waiting -= 1
                if refused is None and refusal(message)[0]:
                    refused = _refused(requests[place], message, start + place)
        if refused is not None:
            raise refused

    def get(self, request: Request) -> bytes:
        """Send a request that is answered by one message; return its body. Raises NetlinkError."""
        self._sequence += 1
        self._socket.send(encode(request, self._sequence))
        while True:
            for message in each_message(self._receive()):
                if message.sequence != self._sequence:
                    continue
                if message.type == NLMSG_ERROR:
                    raise _refused(request, message)
                return message.body

    def dump(self, request: Request) -> list[bytes]:
        """Return the bodies of all messages that answer the request; asked again where things changed meanwhile."""
        for _ in range(_DUMP_TRIES):
            bodies = self._dump(request)
            if bodies is not None:
                return bodies
        raise NetlinkError(errno.EAGAIN, request, "it changes faster than it can be read")

    def _dump(self, request: Request) -> list[bytes] | None:
        self._sequence += 1
        self._socket.send(encode(request, self._sequence, NLM_F_DUMP))
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for message in each_message(self._receive()):
                if message.sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(message.flags & NLM_F_DUMP_INTR)
                if message.type == NLMSG_DONE:
                    return None if interrupted else bodies
                if message.type == NLMSG_ERROR:
                    raise _refused(request, message)
                bodies.append(message.body)

    def _receive(self) -> bytes:
        return self._socket.recv(_RECEIVE_BYTES)
