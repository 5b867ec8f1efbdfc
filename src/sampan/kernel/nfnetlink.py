"""Netfilter's netlink: transactions of nftables, and requests to it and to connection tracking; linux/nfnetlink.h.

What is asked is made and read by the codecs `nftables` and `conntrack`.
"""

from __future__ import annotations

import _socket
import errno
import struct
from typing import TYPE_CHECKING

from sampan.kernel.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLMSG_ERROR,
    SOL_NETLINK,
    Netlink,
    NetlinkError,
    Request,
    each_message,
    encode,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.kernel.netlink import Message

SUBSYSTEM_CTNETLINK = 1
SUBSYSTEM_NFTABLES = 10

_BATCH_BEGIN = 0x10
_BATCH_END = 0x11
_GROUP_NFTABLES = 7
_NETLINK_ADD_MEMBERSHIP = 1
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_HEADER = struct.Struct("=BBH")  # family, version; the resource, which is of network byte order
_SEND_BYTES = 4 << 20  # a transaction is one message: 4,000 published ports and more

HEADER_BYTES = _HEADER.size
"""What stands before the attributes of every message of netfilter's."""


def request(
    subsystem: int, type: int, flags: int, family: int, attributes: bytes, *, names: tuple[str, str]
) -> Request:
    """Make one request; `names` are the call and the object for errors."""
    return Request(subsystem << 8 | type, flags, _HEADER.pack(family, 0, 0) + attributes, *names)


class Nfnetlink(Netlink):
    """A socket of netfilter's in the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)

    def commit(self, requests: Sequence[Request]) -> None:
        """Perform requests of nftables as one transaction, all or none. Raises NetlinkError for the first refused."""
        begin = Request(_BATCH_BEGIN, 0, _HEADER.pack(0, 0, _socket.htons(SUBSYSTEM_NFTABLES)), "nftables")
        end = begin._replace(type=_BATCH_END)
        first = self._sequence + 2
        last = first + len(requests) - 1
        self._sequence = last + 1
        # Only the last is acknowledged, which comes after the commit: a receive buffer holds some 250 of them.
        messages = [encode(r, first + n, NLM_F_ACK if first + n == last else 0) for n, r in enumerate(requests)]
        self._send(b"".join([encode(begin, first - 1), *messages, encode(end, last + 1)]))
        self._committed(requests, first)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as e:
            if e.errno != errno.EMSGSIZE:
                raise
            self._socket.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, max(_SEND_BYTES, 2 * len(data)))
            self._socket.send(data)

    def _committed(self, requests: Sequence[Request], first: int) -> None:
        refused: NetlinkError | None = None
        last = first + len(requests) - 1
        while True:
            for message in each_message(self._receive()):
                if message.type != NLMSG_ERROR or not first - 1 <= message.sequence <= last + 1:
                    continue
                error, words = refusal(message)
                if error and refused is None:
                    place = min(max(message.sequence - first, 0), len(requests) - 1)
                    refused = NetlinkError(error, requests[place], words, place)
                if message.sequence >= last or message.sequence < first:  # the batch itself was refused
                    if refused is not None:
                        raise refused
                    return


class Events:
    """What is changed in nftables by anybody in this thread's network namespace, as it happens; needs CAP_NET_ADMIN."""

    def __init__(self) -> None:
        self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.setsockopt(SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _GROUP_NFTABLES)

    def fileno(self) -> int:
        """Return the socket's descriptor, for poll(2)."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def read(self) -> list[Message]:
        """Wait for some and return them; an empty list where more happened than the socket could hold."""
        try:
            return list(each_message(self._socket.recv(64 << 10)))
        except OSError as e:
            if e.errno != errno.ENOBUFS:
                raise
            return []
