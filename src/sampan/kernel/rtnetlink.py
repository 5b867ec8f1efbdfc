"""Rtnetlink's messages, encoded and decoded: links, addresses, routes, neighbours; rtnetlink(7). Pure.

Each function makes the `Request` that one `ip` command would send; `Netlink.batch` sends several together.
"""

from __future__ import annotations

import struct
from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from enum import IntEnum

import msgspec

from sampan.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Request,
    attribute,
    attributes,
    nested,
    number,
    text,
)

AF_UNSPEC = 0
AF_BRIDGE = 7


class RTM(IntEnum):
    """Types of messages."""

    NEWLINK = 16
    DELLINK = 17
    GETLINK = 18
    SETLINK = 19
    NEWADDR = 20
    GETADDR = 22
    NEWROUTE = 24
    GETROUTE = 26
    NEWNEIGH = 28


class IFLA(IntEnum):
    """Attributes of a link."""

    ADDRESS = 1
    IFNAME = 3
    MTU = 4
    LINK = 5
    MASTER = 10
    PROTINFO = 12
    LINKINFO = 18
    IFALIAS = 20
    AF_SPEC = 26
    NET_NS_FD = 28
    EXT_MASK = 29
    LINK_NETNSID = 37


class IFA(IntEnum):
    """Attributes of an address."""

    ADDRESS = 1
    LOCAL = 2
    BROADCAST = 4


class RTA(IntEnum):
    """Attributes of a route."""

    DST = 1
    OIF = 4
    GATEWAY = 5
    PRIORITY = 6
    TABLE = 15


class NDA(IntEnum):
    """Attributes of a neighbour."""

    DST = 1
    LLADDR = 2


IFF_UP = 0x1
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_BRPORT_MODE = 4
IFLA_BRPORT_ISOLATED = 33
IFLA_INET6_ADDR_GEN_MODE = 8
IN6_ADDR_GEN_MODE_NONE = 1
VETH_INFO_PEER = 1
IFLA_VLAN_ID = 1
IFLA_MACVLAN_MODE = 1
IFLA_IPVLAN_MODE = 1
IFLA_IPVLAN_FLAGS = 2
RTEXT_FILTER_SKIP_STATS = 8
IFA_F_NODAD = 0x2
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RT_TABLE_MAIN = 254
RT_TABLE_LOCAL = 255
RTPROT_BOOT = 3
RTN_UNICAST = 1
RTN_BLACKHOLE = 6
RTN_UNREACHABLE = 7
RTN_PROHIBIT = 8
RTM_F_CLONED = 0x200
NUD_STALE = 0x4

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}

_IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type


class Link(msgspec.Struct, frozen=True):
    """A network interface, as the kernel describes it."""

    index: int
    name: str
    kind: str = ""  # "bridge", "veth", …; "" for hardware and `lo`
    mac: str = ""
    mtu: int = 0
    master: int = 0  # the index of the bridge that it is a port of
    parent: int = 0  # of a veth the other end's index, of a macvlan the link below
    alias: str = ""
    up: bool = False
    elsewhere: bool = False  # `parent` is an index in another network namespace


class Route(msgspec.Struct, frozen=True):
    """A way to a destination; "" of `destination` is the default route."""

    destination: str  # "10.0.0.0/8"
    gateway: str
    index: int  # of the link; 0 for several, and for none
    table: int
    type: int


def version(address: str) -> int:
    """Return the address family of an address or a subnet."""
    return AF_INET6 if ":" in address else AF_INET


def packed(address: str) -> bytes:
    """Return an address, without prefix, as bytes of the network's order."""
    return inet_pton(version(address), address)


def mac_bytes(mac: str) -> bytes:
    """Return "02:42:ac:11:00:02" as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def new_link(name: str, kind: str, data: bytes = b"", *, settings: bytes = b"", up: bool = False) -> Request:
    """Make a link of a kind; refused where one of that name exists. `data` is the kind's own, `settings` a link's."""
    body = _IFINFOMSG.pack(AF_UNSPEC, 0, 0, IFF_UP if up else 0, IFF_UP if up else 0)
    info = text(IFLA_INFO_KIND, kind) + (nested(IFLA_INFO_DATA, data) if data else b"")
    body += text(IFLA.IFNAME, name) + settings + nested(IFLA.LINKINFO, info)
    return Request(RTM.NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, "RTM_NEWLINK", name)


def settings(
    *, mac: str = "", mtu: int = 0, master: int = 0, parent: int = 0, alias: str = "", namespace_fd: int | None = None
) -> bytes:
    """Encode what most links have; what is not given stays as it is."""
    encoded = attribute(IFLA.ADDRESS, mac_bytes(mac)) if mac else b""
    for type, value in ((IFLA.MTU, mtu), (IFLA.LINK, parent), (IFLA.MASTER, master)):
        encoded += number(type, value) if value else b""
    if namespace_fd is not None:
        encoded += number(IFLA.NET_NS_FD, namespace_fd)
    return encoded + (text(IFLA.IFALIAS, alias) if alias else b"")


def veth_peer(name: str, settings: bytes) -> bytes:
    """Describe the other end, for `new_link(…, "veth", …)`."""
    return nested(VETH_INFO_PEER, _IFINFOMSG.pack(AF_UNSPEC, 0, 0, 0, 0) + text(IFLA.IFNAME, name) + settings)


def macvlan(mode: str) -> bytes:
    """Describe a macvlan: a key of MACVLAN_MODES."""
    return number(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode])


def ipvlan(mode: str, flag: str = "bridge") -> bytes:
    """Describe an ipvlan: keys of IPVLAN_MODES and IPVLAN_FLAGS."""
    flags = attribute(IFLA_IPVLAN_FLAGS, struct.pack("=H", IPVLAN_FLAGS[flag]))
    return attribute(IFLA_IPVLAN_MODE, struct.pack("=H", IPVLAN_MODES[mode])) + flags


def vlan(id: int) -> bytes:
    """Describe a VLAN."""
    return attribute(IFLA_VLAN_ID, struct.pack("=H", id))


def change_link(index: int, name: str, settings: bytes = b"", *, up: bool | None = None) -> Request:
    """Change a link; `name` is for the error only."""
    flags = IFF_UP if up else 0
    body = _IFINFOMSG.pack(AF_UNSPEC, 0, index, flags, 0 if up is None else IFF_UP) + settings
    return Request(RTM.NEWLINK, 0, body, "RTM_NEWLINK", name)


def without_link_local() -> bytes:
    """Be a setting: no fe80:: address when it comes up."""
    mode = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    return nested(IFLA.AF_SPEC, nested(AF_INET6, mode))


def set_port(index: int, name: str, *, isolated: bool) -> Request:
    """Let a port of a bridge get back what came from it; `isolated`: talk to no other isolated one, Linux 4.18."""
    body = _IFINFOMSG.pack(AF_BRIDGE, 0, index, 0, 0)
    apart = attribute(IFLA_BRPORT_ISOLATED, b"\1") if isolated else b""
    body += nested(IFLA.PROTINFO, attribute(IFLA_BRPORT_MODE, b"\1"), apart)
    return Request(RTM.SETLINK, 0, body, "RTM_SETLINK", name)


def remove_link(index: int, name: str) -> Request:
    """Remove a link, and with it its addresses and routes, and a veth's other end."""
    return Request(RTM.DELLINK, 0, _IFINFOMSG.pack(AF_UNSPEC, 0, index, 0, 0), "RTM_DELLINK", name)


def get_link(name: str) -> Request:
    """Ask for one link by its name; the answer is for `link`."""
    body = _IFINFOMSG.pack(AF_UNSPEC, 0, 0, 0, 0) + text(IFLA.IFNAME, name) + _NO_STATISTICS
    return Request(RTM.GETLINK, 0, body, "RTM_GETLINK", name)


def get_links() -> Request:
    """Ask for all links."""
    return Request(RTM.GETLINK, 0, _IFINFOMSG.pack(AF_UNSPEC, 0, 0, 0, 0) + _NO_STATISTICS, "RTM_GETLINK")


_NO_STATISTICS = number(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS)


def link(body: bytes) -> Link:
    """Decode a link."""
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(body)
    found = attributes(body, _IFINFOMSG.size)
    return Link(
        index,
        _text(found.get(IFLA.IFNAME)),
        _text(attributes(found.get(IFLA.LINKINFO, b"")).get(IFLA_INFO_KIND)),
        found.get(IFLA.ADDRESS, b"").hex(":"),
        _number(found.get(IFLA.MTU)),
        _number(found.get(IFLA.MASTER)),
        _number(found.get(IFLA.LINK)),
        _text(found.get(IFLA.IFALIAS)),
        bool(flags & IFF_UP),
        IFLA.LINK_NETNSID in found,
    )


def _text(data: bytes | None) -> str:
    return (data or b"").rstrip(b"\0").decode(errors="replace")


def _number(data: bytes | None) -> int:
    return int(struct.unpack("=I", data)[0]) if data and len(data) == 4 else 0


def _split(address: str) -> tuple[bytes, int]:
    bare, _, prefix = address.partition("/")
    data = packed(bare)
    return data, int(prefix) if prefix else len(data) * 8


def _addressing(index: int, address: str) -> bytes:
    data, prefix = _split(address)
    flags = IFA_F_NODAD if len(data) == 16 else 0
    body = _IFADDRMSG.pack(version(address), prefix, flags, RT_SCOPE_UNIVERSE, index)
    return body + attribute(IFA.LOCAL, data) + attribute(IFA.ADDRESS, data)


def add_address(index: int, address: str) -> Request:
    """Give a link an address, "172.17.0.2/16"; one that it has is fine. IPv6 is usable at once (nodad)."""
    body = _addressing(index, address)
    data, prefix = _split(address)
    if len(data) == 4 and prefix < 31:
        hosts = (1 << 32 - prefix) - 1
        body += attribute(IFA.BROADCAST, (int.from_bytes(data) | hosts).to_bytes(4))
    return Request(RTM.NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body, "RTM_NEWADDR", address)


def get_addresses() -> Request:
    """Ask for all addresses."""
    return Request(RTM.GETADDR, 0, _IFADDRMSG.pack(AF_UNSPEC, 0, 0, 0, 0), "RTM_GETADDR")


def address(body: bytes) -> tuple[int, str]:
    """Decode an address: the link's index, and "172.17.0.2/16"."""
    family, prefix, _, _, index = _IFADDRMSG.unpack_from(body)
    found = attributes(body, _IFADDRMSG.size)
    data = found.get(IFA.LOCAL, found.get(IFA.ADDRESS, b""))  # LOCAL is IPv4's and of point-to-point links
    return index, f"{inet_ntop(family, data)}/{prefix}"


def address_scope(body: bytes) -> int:
    """Decode how far an address reaches: one of RT_SCOPE."""
    return int(_IFADDRMSG.unpack_from(body)[3])


def _routing(destination: str, gateway: str, index: int) -> bytes:
    data, prefix = _split(destination)
    scope = RT_SCOPE_UNIVERSE if gateway or len(data) == 16 else RT_SCOPE_LINK
    body = _RTMSG.pack(version(destination), prefix, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0)
    body += attribute(RTA.DST, data) if prefix else b""
    body += attribute(RTA.GATEWAY, packed(gateway)) if gateway else b""
    return body + number(RTA.OIF, index)


def replace_route(destination: str, gateway: str, index: int) -> Request:
    """Route `destination` ("0.0.0.0/0" and "::/0" are all) by a gateway, or with "" straight through the link."""
    body = _routing(destination, gateway, index)
    return Request(RTM.NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, "RTM_NEWROUTE", destination)


def get_routes() -> Request:
    """Ask for all routes of all tables."""
    return Request(RTM.GETROUTE, 0, _RTMSG.pack(AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0), "RTM_GETROUTE")


def route(body: bytes) -> Route | None:
    """Decode a route of IPv4 or IPv6; None for others, and for what is only a cache."""
    family, prefix, _, _, table, _, _, type, flags = _RTMSG.unpack_from(body)
    if family not in (AF_INET, AF_INET6) or flags & RTM_F_CLONED:
        return None
    found = attributes(body, _RTMSG.size)
    to, by = found.get(RTA.DST), found.get(RTA.GATEWAY)
    return Route(
        f"{inet_ntop(family, to)}/{prefix}" if to else "",
        inet_ntop(family, by) if by else "",
        _number(found.get(RTA.OIF)),
        _number(found.get(RTA.TABLE)) or table,
        type,
    )


def replace_neighbour(index: int, address: str, mac: str) -> Request:
    """Say which MAC an address of a link's network has, until it is found to be otherwise."""
    body = _NDMSG.pack(version(address), index, NUD_STALE, 0, 0)
    body += attribute(NDA.DST, packed(address)) + attribute(NDA.LLADDR, mac_bytes(mac))
    return Request(RTM.NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, "RTM_NEWNEIGH", address)
