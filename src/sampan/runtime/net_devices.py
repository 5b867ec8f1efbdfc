"""Moves network devices of the host into a container; imported only where a plan has one, and by the caller's side.

The kernel keeps a device's MAC, MTU and settings on its way, and drops its addresses: those are given to it again.
config-linux.md, "Network Devices".
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.kernel import namespaces, rtnetlink
from sampan.kernel.namespaces import CLONE
from sampan.kernel.netlink import Netlink, number, text

if TYPE_CHECKING:
    from collections.abc import Iterator


def move(device: str, name: str, pid: int) -> None:
    """Move `device` to where the process is, under a name that may hold %d, with its addresses of global scope."""
    theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Netlink() as here:
            link = rtnetlink.link(here.get(rtnetlink.get_link(device)))
            addresses = list(_global_addresses(here, link.index))
            with _netlink_in(theirs) as there:
                before = {rtnetlink.link(body).index for body in there.dump(rtnetlink.get_links())}
                settings = number(rtnetlink.IFLA.NET_NS_FD, theirs) + text(rtnetlink.IFLA.IFNAME, name)
                # One that is up can't be renamed everywhere, and comes down on its way in any case.
                here.batch([rtnetlink.change_link(link.index, device, up=False)])
                here.batch([rtnetlink.change_link(link.index, device, settings)])
                moved = [rtnetlink.link(body) for body in there.dump(rtnetlink.get_links())]
                (index,) = [m.index for m in moved if m.index not in before]
                there.batch(
                    [
                        *(rtnetlink.add_address(index, address) for address in addresses),
                        rtnetlink.change_link(index, name, up=True),
                    ]
                )
    finally:
        os.close(theirs)


def _global_addresses(netlink: Netlink, index: int) -> Iterator[str]:
    for body in netlink.dump(rtnetlink.get_addresses()):
        owner, address = rtnetlink.address(body)
        if owner == index and rtnetlink.address_scope(body) == rtnetlink.RT_SCOPE_UNIVERSE:
            yield address


def _netlink_in(namespace: int) -> Netlink:
    """Open a socket to the kernel's other network; it stays there when this process has come back."""
    ours = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(namespace, CLONE.NEWNET)
        try:
            return Netlink()
        finally:
            namespaces.setns(ours, CLONE.NEWNET)
    finally:
        os.close(ours)
