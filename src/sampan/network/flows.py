"""UDP flows that connection tracking remembers: found by the host's port, and forgotten.

A flow goes on to where its first packet was led, however the ports are published since.
"""

from __future__ import annotations

import errno
from _socket import AF_INET, AF_INET6, SOCK_DGRAM, inet_ntop, inet_pton, socket
from typing import TYPE_CHECKING

from sampan.kernel import conntrack
from sampan.kernel.netlink import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sampan.kernel.netlink import Netlink

_UDP = 17


def flows(netlink: Netlink, ports: Iterable[int]) -> Iterator[conntrack.Flow]:
    """Yield the UDP flows to these ports, of both versions of IP."""
    for port in ports:
        for family in (AF_INET, AF_INET6):
            for body in netlink.dump(conntrack.dump(family, _UDP, port)):
                flow = conntrack.flow(body)
                if flow.protocol == _UDP and flow.port == port:
                    yield flow


def forget(netlink: Netlink, flow: conntrack.Flow) -> None:
    """Forget a flow; one that is gone already is no error."""
    try:
        netlink.batch((conntrack.delete(flow),))
    except NetlinkError as e:
        if e.errno != errno.ENOENT:
            raise


def packed(address: str) -> bytes:
    """Return an address as connection tracking has it."""
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


def is_local(address: bytes) -> bool:
    """Tell whether an address is one of the host's: a socket can be bound to it."""
    family = AF_INET if len(address) == 4 else AF_INET6
    s = socket(family, SOCK_DGRAM)
    try:
        s.bind((inet_ntop(family, address), 0))
    except OSError:
        return False
    finally:
        s.close()
    return True
