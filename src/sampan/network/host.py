"""What the host's network looks like: its routes, and this instance's links."""

from __future__ import annotations

import _socket
import random
import string
from typing import TYPE_CHECKING, Literal

from sampan.errors import doing
from sampan.kernel import rtnetlink
from sampan.kernel.netlink import Netlink

if TYPE_CHECKING:
    from sampan.kernel.rtnetlink import Link, Route

_SHORTEST = {4: 8, 6: 7}
_KINDS = (rtnetlink.RTN_UNICAST, rtnetlink.RTN_BLACKHOLE, rtnetlink.RTN_UNREACHABLE, rtnetlink.RTN_PROHIBIT)
_ALPHABET = string.ascii_lowercase + string.digits


def routes() -> tuple[str, ...]:
    """Return the subnets that the host routes, in all its tables: "10.8.0.0/24".

    Routes to nearly everything are left out, like the 0.0.0.0/1 of a VPN: no pool of addresses would be free.
    """
    with doing("can't list the host's routes"), Netlink() as netlink:
        found = [rtnetlink.route(body) for body in netlink.dump(rtnetlink.get_routes())]
    return tuple(dict.fromkeys(route.destination for route in found if route is not None and _is_taken(route)))


def _is_taken(route: Route) -> bool:
    if not route.destination or route.table == rtnetlink.RT_TABLE_LOCAL:
        return False
    version = 6 if ":" in route.destination else 4
    return int(route.destination.partition("/")[2]) >= _SHORTEST[version] and route.type in _KINDS


def links(instance: str) -> tuple[Link, ...]:
    """Return the host's links of this instance: those whose name or alias has its id."""
    with doing("can't list the host's links"), Netlink() as netlink:
        found = [rtnetlink.link(body) for body in netlink.dump(rtnetlink.get_links())]
    ours = (f"sp{instance}", f"sampan {instance} ")
    return tuple(link for link in found if link.name.startswith(ours[0]) or link.alias.startswith(ours[1]))


def addresses(but_of: frozenset[str]) -> tuple[str, ...]:
    """Return the host's addresses, without prefixes, but those of some links."""
    with doing("can't list the host's addresses"), Netlink() as netlink:
        found = [rtnetlink.address(body) for body in netlink.dump(rtnetlink.get_addresses())]
    names = dict(_socket.if_nameindex())
    return tuple(text.partition("/")[0] for index, text in found if names.get(index, "") not in but_of)


def exists(link: str) -> bool:
    """Tell whether the host has a link of that name."""
    try:
        _socket.if_nametoindex(link)
    except OSError:
        return False
    return True


def new_link_name(instance: str, kind: Literal["b", "v", "m"]) -> str:
    """Draw a name that no link of the host has, for a bridge, a veth or another link (m)."""
    while True:
        name = f"sp{instance}{kind}{''.join(random.choices(_ALPHABET, k=4))}"
        if not exists(name):
            return name
