"""UDP flows that connection tracking remembers: found by the host's port, and forgotten.

A flow goes on to where its first packet was led, however the ports are published since. To find it the kernel walks its
whole table, for some 10 ms: behind the answer, in a thread.
"""

from __future__ import annotations

import errno
import sys
import threading
from _socket import AF_INET, AF_INET6, SOCK_DGRAM, inet_ntop, inet_pton, socket
from typing import TYPE_CHECKING

from sampan.kernel import conntrack
from sampan.kernel.netlink import Netlink, NetlinkError
from sampan.kernel.nfnetlink import Nfnetlink
from sampan.network.firewall_plan import udp_ports

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sampan.network.firewall_ops import Element

_UDP = 17


def forget_behind(elements: Sequence[Element], *, ending: bool) -> None:
    """Forget UDP flows to published ports: at the end those led to the container, at the beginning all others.

    Returns at once.
    """
    ports = udp_ports(elements)
    if ports:
        led = frozenset(_packed(e.data[0]) for e in elements if e.data)
        threading.Thread(target=_forget, args=(ports, led, ending), name="flows", daemon=True).start()


def _forget(ports: Sequence[int], led: frozenset[bytes], ending: bool) -> None:
    try:
        with Nfnetlink() as netlink:
            for flow in _flows(netlink, ports):
                if (flow.answering in led) == ending and (ending or _is_local(flow.destination)):
                    _remove(netlink, flow)
    except OSError as e:
        print(f"sampan: can't forget UDP flows to ports {ports}: {e}", file=sys.stderr, flush=True)


def _flows(netlink: Netlink, ports: Iterable[int]) -> Iterator[conntrack.Flow]:
    """Yield the UDP flows to these ports, of both versions of IP."""
    for port in ports:
        for family in (AF_INET, AF_INET6):
            for body in netlink.dump(conntrack.dump(family, _UDP, port)):
                flow = conntrack.flow(body)
                if flow.protocol == _UDP and flow.port == port:
                    yield flow


def _remove(netlink: Netlink, flow: conntrack.Flow) -> None:
    try:
        netlink.batch((conntrack.delete(flow),))
    except NetlinkError as e:
        if e.errno != errno.ENOENT:  # it has ended by itself
            raise


def _packed(address: str) -> bytes:
    """Return an address as connection tracking has it."""
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


def _is_local(address: bytes) -> bool:
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
