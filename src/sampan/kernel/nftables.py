"""Messages of nftables as bytes: tables, chains, sets, elements, rules; linux/netfilter/nf_tables.h.

A pure codec: nothing is sent here, and nothing is decided. Numbers of nftables are of network byte order. Registers are
the 32-bit ones; a value takes as many as it needs, from the first on.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sampan.kernel import nfnetlink
from sampan.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    attribute,
    attributes,
    each_attribute,
    nested,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.kernel.netlink import Request

NLM_F_APPEND = 0x800


class Message(IntEnum):
    """NFT_MSG_*: what a message is about."""

    NEWTABLE = 0
    GETTABLE = 1
    DELTABLE = 2
    NEWCHAIN = 3
    GETCHAIN = 4
    DELCHAIN = 5
    NEWRULE = 6
    GETRULE = 7
    DELRULE = 8
    NEWSET = 9
    GETSET = 10
    DELSET = 11
    NEWSETELEM = 12
    GETSETELEM = 13
    DELSETELEM = 14
    NEWGEN = 15


class Family(IntEnum):
    """NFPROTO_*: which packets a table sees."""

    INET = 1
    IP = 2
    ARP = 3
    NETDEV = 5
    BRIDGE = 7
    IP6 = 10


class Hook(IntEnum):
    """NF_INET_*: where a base chain is."""

    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


class SetFlag(IntFlag):
    """NFT_SET_*."""

    INTERVAL = 0x4
    MAP = 0x8


DROP, ACCEPT = 0, 1
JUMP, GOTO, RETURN = -3, -4, -5
"""Verdicts."""

_INTERVAL_END = 0x1


def u32(type: int, value: int) -> bytes:
    """Encode an attribute that is a 32-bit number, negative ones as their complement."""
    return attribute(type, struct.pack(">I", value & 0xFFFFFFFF))


def _u64(type: int, value: int) -> bytes:
    return attribute(type, struct.pack(">Q", value))


# Tables, chains, sets


def _about(family: int, *names: str) -> str:
    return " ".join((Family(family).name.lower(), *names))


def new_table(family: int, name: str, comment: str = "", *, exclusive: bool = False) -> Request:
    """Make a table, or leave it as it is; `exclusive`: EEXIST where there is one."""
    data = text(1, name) + (attribute(6, _comment(comment)) if comment else b"")
    flags = NLM_F_CREATE | NLM_F_EXCL if exclusive else NLM_F_CREATE
    return _request(Message.NEWTABLE, flags, family, data, "nft add table", _about(family, name))


def delete_table(family: int, name: str) -> Request:
    """Remove a table with all that is in it; ENOENT where there is none."""
    return _request(Message.DELTABLE, 0, family, text(1, name), "nft delete table", _about(family, name))


class Base(NamedTuple):
    """What makes a chain a base chain: `type` is "filter" or "nat"."""

    type: str
    hook: int
    priority: int
    policy: int = ACCEPT


def new_chain(family: int, table: str, name: str, base: Base | None = None) -> Request:
    """Make a chain, a base chain where `base` is given, or leave it as it is."""
    data = text(1, table) + text(3, name)
    if base is not None:
        data += nested(4, u32(1, base.hook), u32(2, base.priority)) + u32(5, base.policy) + text(7, base.type)
    return _request(Message.NEWCHAIN, NLM_F_CREATE, family, data, "nft add chain", _about(family, table, name))


class SetType(NamedTuple):
    """What a set's keys, and a map's data, are: nft's numbers of their types, and lengths in bytes."""

    key: int
    key_bytes: int
    data: int = 0
    data_bytes: int = 0
    flags: SetFlag = SetFlag(0)
    byteorder: int = 0  # of keys, so that nft(8) can show them: 1 the host's, 2 the network's


def new_set(family: int, table: str, name: str, type: SetType, number: int) -> Request:
    """Make a set or a map, or leave it as it is. `number` is unlike others' in the transaction."""
    data = text(1, table) + text(2, name) + u32(3, type.flags) + u32(4, type.key) + u32(5, type.key_bytes)
    if type.flags & SetFlag.MAP:
        data += u32(6, type.data) + u32(7, type.data_bytes)
    data += u32(10, number)
    if type.byteorder:
        data += attribute(13, b"\0\4" + struct.pack("=I", type.byteorder))
    return _request(Message.NEWSET, NLM_F_CREATE, family, data, "nft add set", _about(family, table, name))


class Element(NamedTuple):
    """An element of a set or map; `end` marks the first key after an interval."""

    key: bytes
    data: bytes = b""
    end: bool = False


class ElementsRequest(Protocol):
    """`new_elements` or `delete_elements`."""

    def __call__(self, family: int, table: str, name: str, elements: Sequence[Element]) -> list[Request]:
        """Make the requests."""


_ELEMENTS_AT_ONCE = 500  # an attribute's length has 16 bits


def new_elements(family: int, table: str, name: str, elements: Sequence[Element]) -> list[Request]:
    """Add elements. Those that are there already are left alone; EEXIST where one of them leads elsewhere."""
    return _elements(Message.NEWSETELEM, "nft add element", family, (table, name), elements)


def delete_elements(family: int, table: str, name: str, elements: Sequence[Element]) -> list[Request]:
    """Remove elements, by their keys; ENOENT where one is not there."""
    return _elements(Message.DELSETELEM, "nft delete element", family, (table, name), elements)


def _elements(
    type: Message, call: str, family: int, names: tuple[str, str], elements: Sequence[Element]
) -> list[Request]:
    table, name = names
    flags = NLM_F_CREATE if type == Message.NEWSETELEM else 0
    about = _about(family, table, name)
    requests = []
    for start in range(0, len(elements), _ELEMENTS_AT_ONCE):
        listed = nested(3, *map(_element, elements[start : start + _ELEMENTS_AT_ONCE]))
        requests.append(_request(type, flags, family, text(1, table) + text(2, name) + listed, call, about))
    return requests


def _element(element: Element) -> bytes:
    data = nested(1, attribute(1, element.key))
    if element.data:
        data += nested(2, attribute(1, element.data))
    if element.end:
        data += u32(3, _INTERVAL_END)
    return nested(1, data)


# Rules


def new_rule(
    family: int, table: str, chain: str, expressions: Iterable[bytes], *, comment: str = "", before: int = 0
) -> Request:
    """Put a rule at the end of a chain, or before the one that the kernel knows by a handle."""
    data = text(1, table) + text(2, chain) + nested(4, *expressions)
    if comment:
        data += attribute(7, _comment(comment))
    if before:
        data += _u64(6, before)
    flags = NLM_F_CREATE if before else NLM_F_CREATE | NLM_F_APPEND
    return _request(Message.NEWRULE, flags, family, data, "nft add rule", _about(family, table, chain))


def delete_rule(family: int, table: str, chain: str, handle: int) -> Request:
    """Remove the rule that the kernel knows by `handle`."""
    data = text(1, table) + text(2, chain) + _u64(3, handle)
    return _request(Message.DELRULE, 0, family, data, "nft delete rule", _about(family, table, chain))


class Meta(IntEnum):
    """NFT_META_*: what is known of a packet beside its bytes."""

    MARK = 3
    IIFNAME = 6
    OIFNAME = 7
    NFPROTO = 15
    L4PROTO = 16


class Ct(IntEnum):
    """NFT_CT_*: what connection tracking knows of it."""

    STATE = 0
    STATUS = 2


class PayloadBase(IntEnum):
    """NFT_PAYLOAD_*_HEADER."""

    NETWORK = 1
    TRANSPORT = 2


class Fib(IntFlag):
    """NFTA_FIB_F_*: what is looked up in the routes."""

    DADDR = 0x2
    IIF = 0x8


def meta(key: int, register: int = 0) -> bytes:
    """Load what is known of the packet."""
    return _expression("meta", u32(2, key), u32(1, _register(register)))


def set_meta(key: int, register: int = 0) -> bytes:
    """Store a register as it."""
    return _expression("meta", u32(2, key), u32(3, _register(register)))


def ct(key: int, register: int = 0) -> bytes:
    """Load what connection tracking knows."""
    return _expression("ct", u32(2, key), u32(1, _register(register)))


def fib_type(flags: int, register: int = 0) -> bytes:
    """Load what kind of address it is for this host: RTN_LOCAL, RTN_UNICAST, …"""
    return _expression("fib", u32(3, flags), u32(2, 3), u32(1, _register(register)))


def payload(base: int, offset: int, length: int, register: int = 0) -> bytes:
    """Load bytes of the packet."""
    return _expression("payload", u32(1, _register(register)), u32(2, base), u32(3, offset), u32(4, length))


def set_payload(offset: int, length: int, checksum_offset: int, register: int = 0) -> bytes:
    """Store a register into the transport header, whose checksum is at `checksum_offset`."""
    return _expression(
        "payload",
        u32(5, _register(register)),
        u32(2, PayloadBase.TRANSPORT),
        u32(3, offset),
        u32(4, length),
        u32(6, 1),  # NFT_PAYLOAD_CSUM_INET
        u32(7, checksum_offset),
        u32(8, 0),
    )


def compare(value: bytes, *, equal: bool = True, register: int = 0) -> bytes:
    """Go on if a register is `value`, or is not."""
    return _expression("cmp", u32(1, _register(register)), u32(2, 0 if equal else 1), nested(3, attribute(1, value)))


def bitwise(mask: bytes, xor: bytes, register: int = 0) -> bytes:
    """Keep a register's bits of `mask`, and turn those of `xor`."""
    return _expression(
        "bitwise",
        u32(1, _register(register)),
        u32(2, _register(register)),
        u32(3, len(mask)),
        nested(4, attribute(1, mask)),
        nested(5, attribute(1, xor)),
    )


def immediate(value: bytes, register: int = 0) -> bytes:
    """Load a constant."""
    return _expression("immediate", u32(1, _register(register)), nested(2, attribute(1, value)))


def lookup(name: str, *, inverted: bool = False, mapped: bool = False) -> bytes:
    """Go on if the registers are in a set, or are not; `mapped` replaces them by what a map leads them to."""
    data = [text(1, name), u32(2, _register(0))]
    if mapped:
        data.append(u32(3, _register(0)))
    return _expression("lookup", *data, u32(5, 1 if inverted else 0))


def dnat(family: int, port_register: int) -> bytes:
    """Lead the packet to the address in the first registers, and the port in another."""
    address, port = u32(3, _register(0)), u32(5, _register(port_register))
    return _expression("nat", u32(1, 1), u32(2, family), address, port)


def masquerade() -> bytes:
    """Give the packet the address of the link by which it leaves."""
    return _expression("masq")


def verdict(code: int, chain: str = "") -> bytes:
    """Decide about the packet."""
    data = u32(1, code) + (text(2, chain) if chain else b"")
    return _expression("immediate", u32(1, 0), nested(2, nested(2, data)))


def _register(number: int) -> int:
    return 8 + number  # NFT_REG32_00


def _expression(name: str, *data: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *data))


# What the kernel says


def dump(type: Message, family: int = 0, *names: str) -> Request:
    """Ask for all of a kind: tables, the chains of a family, rules of (table, chain), elements of (table, set)."""
    data = b"".join(text(n, name) for n, name in enumerate(names, 1))
    return _request(type, 0, family, data, f"nft list {type.name.removeprefix('GET').lower()}", " ".join(names))


class Table(NamedTuple):
    """A table."""

    family: int
    name: str
    comment: str


def table(body: bytes) -> Table:
    """Read a message about a table."""
    found = attributes(body, nfnetlink.HEADER_BYTES)
    return Table(body[0], _text(found[1]), _read_comment(found.get(6, b"")))


class Chain(NamedTuple):
    """A chain; `base` is None where no packet comes to it by itself. `use` counts its rules and what leads to it."""

    family: int
    table: str
    name: str
    base: Base | None
    use: int


def chain(body: bytes) -> Chain:
    """Read a message about a chain."""
    found = attributes(body, nfnetlink.HEADER_BYTES)
    base = None
    if 4 in found:
        hook = attributes(found[4])
        (priority,) = struct.unpack(">i", hook[2])
        base = Base(_text(found[7]), _number(hook[1]), priority, _number(found[5]))
    return Chain(body[0], _text(found[1]), _text(found[3]), base, _number(found.get(6, b"")))


class Rule(NamedTuple):
    """A rule: its expressions' names and data, in order."""

    family: int
    table: str
    chain: str
    handle: int
    comment: str
    expressions: tuple[tuple[str, bytes], ...]

    def verdict(self) -> tuple[int, str] | None:
        """Its last word: a verdict and, for jumps, the chain; a reject counts as a drop. None: it has none."""
        if not self.expressions:
            return None
        name, data = self.expressions[-1]
        if name == "reject":
            return DROP, ""
        if name != "immediate":
            return None
        spoken = attributes(attributes(data).get(2, b"")).get(2)
        if spoken is None:
            return None
        found = attributes(spoken)
        code = _number(found[1])
        return code - (1 << 32) if code >> 31 else code, _text(found.get(2, b""))


def target(data: bytes) -> str:
    """Read the name of iptables' own target, "REJECT", from an expression called "target"."""
    return _text(attributes(data).get(1, b""))


def rule(body: bytes) -> Rule:
    """Read a message about a rule."""
    found = attributes(body, nfnetlink.HEADER_BYTES)
    expressions = tuple(_read_expression(data) for _, data in each_attribute(found.get(4, b"")))
    (handle,) = struct.unpack(">Q", found[3])
    return Rule(body[0], _text(found[1]), _text(found[2]), handle, _read_comment(found.get(7, b"")), expressions)


def _read_expression(data: bytes) -> tuple[str, bytes]:
    found = attributes(data)
    return _text(found[1]), found.get(2, b"")


def elements(body: bytes) -> list[Element]:
    """Read a message about a set's elements."""
    found = attributes(body, nfnetlink.HEADER_BYTES)
    return [_read_element(attributes(data)) for _, data in each_attribute(found.get(3, b""))]


def _read_element(found: dict[int, bytes]) -> Element:
    key = attributes(found.get(1, b"")).get(1, b"")
    data = attributes(found.get(2, b"")).get(1, b"")
    return Element(key, data, bool(_number(found.get(3, bytes(4))) & _INTERVAL_END))


# nft(8) keeps comments as its own type-length-value: NFTNL_UDATA_*_COMMENT is 0.


def _comment(words: str) -> bytes:
    data = words.encode() + b"\0"
    return bytes((0, len(data))) + data


def _read_comment(data: bytes) -> str:
    at = 0
    while at + 2 <= len(data):
        if data[at] == 0:
            return _text(data[at + 2 : at + 2 + data[at + 1]])
        at += 2 + data[at + 1]
    return ""


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _request(type: Message, flags: int, family: int, data: bytes, call: str, about: str) -> Request:
    return nfnetlink.request(nfnetlink.SUBSYSTEM_NFTABLES, type, flags, family, data, names=(call, about))
