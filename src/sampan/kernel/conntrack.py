"""Connection tracking's entries as bytes: those to a port, and their removal; linux/netfilter/nfnetlink_conntrack.h."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from sampan.kernel import nfnetlink
from sampan.kernel.netlink import attribute, attributes, nested

if TYPE_CHECKING:
    from sampan.kernel.netlink import Request

_GET, _DELETE = 1, 2
_TUPLE_ORIG, _TUPLE_REPLY, _ZONE, _FILTER = 1, 2, 18, 25
_FILTER_PROTOCOL, _FILTER_DESTINATION_PORT = 1 << 3, 1 << 5


class Flow(NamedTuple):
    """An entry: where its first packet was sent, and who answers; addresses are packed."""

    family: int
    protocol: int
    destination: bytes
    port: int
    answering: bytes
    original: bytes  # the tuple as the kernel gave it, by which the entry is removed
    zone: bytes


def dump(family: int, protocol: int, port: int) -> Request:
    """Ask for entries of a protocol to a port. Kernels before 5.8 give all: compare what comes."""
    wanted = nested(_TUPLE_ORIG, nested(2, attribute(1, bytes((protocol,))), attribute(3, struct.pack(">H", port))))
    # The filter's numbers are of the host's byte order, as nothing else here is.
    flags = nested(_FILTER, attribute(1, struct.pack("=I", _FILTER_PROTOCOL | _FILTER_DESTINATION_PORT)))
    return _request(_GET, family, wanted + flags, f"port {port}")


def flow(body: bytes) -> Flow:
    """Read an entry."""
    found = attributes(body, nfnetlink.HEADER_BYTES)
    addresses, protocol = _tuple(found[_TUPLE_ORIG])
    answers, _ = _tuple(found[_TUPLE_REPLY])
    return Flow(
        body[0],
        protocol.get(1, b"\0")[0],
        addresses.get(2) or addresses.get(4) or b"",
        int.from_bytes(protocol.get(3, b""), "big"),
        answers.get(1) or answers.get(3) or b"",
        found[_TUPLE_ORIG],
        found.get(_ZONE, b""),
    )


def _tuple(data: bytes) -> tuple[dict[int, bytes], dict[int, bytes]]:
    found = attributes(data)
    return attributes(found.get(1, b"")), attributes(found.get(2, b""))


def delete(entry: Flow) -> Request:
    """Remove an entry; ENOENT where it is gone already."""
    data = nested(_TUPLE_ORIG, entry.original) + (attribute(_ZONE, entry.zone) if entry.zone else b"")
    return _request(_DELETE, entry.family, data, f"port {entry.port}")


def _request(type: int, family: int, data: bytes, about: str) -> Request:
    return nfnetlink.request(nfnetlink.SUBSYSTEM_CTNETLINK, type, 0, family, data, names=("conntrack", about))
