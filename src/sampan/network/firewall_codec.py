"""Turns the rules and elements of `firewall_rules` into nftables' bytes, and elements back into text."""

from __future__ import annotations

import struct
from _socket import AF_INET, AF_INET6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, inet_ntop, inet_pton
from typing import TYPE_CHECKING, assert_never

from sampan.kernel import nftables
from sampan.kernel.nftables import Ct, Family, Fib, Hook, Meta, PayloadBase, SetFlag
from sampan.network import firewall_rules as rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sampan.network.firewall_rules import Field, KeyType, Rule, Statement

Texts = tuple[str, ...]
"""A key, or the data it leads to: one text for each of its types."""

_PROTOCOLS = {"tcp": IPPROTO_TCP, "udp": IPPROTO_UDP, "sctp": IPPROTO_SCTP}
_PROTOCOL_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_VERSIONS = {"ipv4": Family.IP, "ipv6": Family.IP6}
_VERSION_NAMES = {int(number): name for name, number in _VERSIONS.items()}

# nft(8)'s numbers of its data types, by which it shows what is in a set; and lengths, which fill whole registers in a
# concatenation.
_TYPES: dict[KeyType, tuple[int, int]] = {
    "nf_proto": (2, 1),
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "inet_proto": (12, 1),
    "inet_service": (13, 2),
    "ifname": (41, 16),
}
_TYPE_BITS = 6
_HOST_ORDER, _NETWORK_ORDER = 1, 2


def _padded(length: int) -> int:
    return length + 3 & ~3


# Sets


def set_type(declared: rules.Set) -> nftables.SetType:
    """Return what the kernel must be told of a set."""
    flags = (SetFlag.INTERVAL if declared.interval else SetFlag(0)) | (SetFlag.MAP if declared.data else SetFlag(0))
    order = _NETWORK_ORDER if declared.interval else _HOST_ORDER if declared.key == ("ifname",) else 0
    return nftables.SetType(*_type(declared.key), *_type(declared.data), flags, order)


def _type(parts: tuple[KeyType, ...]) -> tuple[int, int]:
    number = length = 0
    for part in parts:
        number = number << _TYPE_BITS | _TYPES[part][0]
        length += _padded(_TYPES[part][1])
    return number, _TYPES[parts[0]][1] if len(parts) == 1 else length


def encode_element(declared: rules.Set, key: Texts, data: Texts = ()) -> list[nftables.Element]:
    """Encode an element; an interval, "172.17.0.0/16", is two: where it begins and what follows it."""
    if declared.interval:
        return _encode_interval(key[0])
    return [nftables.Element(_encode(declared.key, key), _encode(declared.data, data))]


def _encode_interval(subnet: str) -> list[nftables.Element]:
    address, _, prefix = subnet.partition("/")
    first = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    after = int.from_bytes(first, "big") + (1 << len(first) * 8 - int(prefix))
    begin = nftables.Element(first)
    if after >> len(first) * 8:  # it goes to the last address
        return [begin]
    return [begin, nftables.Element(after.to_bytes(len(first), "big"), end=True)]


def _encode(types: tuple[KeyType, ...], texts: Texts) -> bytes:
    if len(types) == 1:
        return _encode_part(types[0], texts[0])
    parts = map(_encode_part, types, texts)
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def _encode_part(type: KeyType, value: str) -> bytes:
    match type:
        case "ifname":
            return value.encode().ljust(16, b"\0")
        case "ipv4_addr":
            return inet_pton(AF_INET, value)
        case "ipv6_addr":
            return inet_pton(AF_INET6, value)
        case "nf_proto":
            return bytes((_VERSIONS[value],))
        case "inet_proto":
            return bytes((_PROTOCOLS[value],))
        case "inet_service":
            return struct.pack(">H", int(value))
        case _:
            assert_never(type)


def decode_elements(declared: rules.Set, elements: Iterable[nftables.Element]) -> Iterator[tuple[Texts, Texts]]:
    """Yield each element's key and data; of intervals those that are subnets."""
    if declared.interval:
        yield from _decode_intervals(elements)
        return
    for element in elements:
        yield _decode(declared.key, element.key), _decode(declared.data, element.data)


def _decode_intervals(elements: Iterable[nftables.Element]) -> Iterator[tuple[Texts, Texts]]:
    begin: bytes | None = None
    for element in sorted(elements, key=lambda e: (e.key, not e.end)):
        if begin is not None:
            yield (_subnet(begin, int.from_bytes(element.key, "big")),), ()
        begin = None if element.end else element.key
    if begin is not None:
        yield (_subnet(begin, 1 << len(begin) * 8),), ()


def _subnet(begin: bytes, after: int) -> str:
    bits = (after - int.from_bytes(begin, "big")).bit_length() - 1
    return f"{inet_ntop(AF_INET if len(begin) == 4 else AF_INET6, begin)}/{len(begin) * 8 - bits}"


def _decode(types: tuple[KeyType, ...], data: bytes) -> Texts:
    texts, at = [], 0
    for type in types:
        length = _TYPES[type][1]
        texts.append(_decode_part(type, data[at : at + length]))
        at += _padded(length)
    return tuple(texts)


def _decode_part(type: KeyType, data: bytes) -> str:
    match type:
        case "ifname":
            return data.rstrip(b"\0").decode(errors="replace")
        case "ipv4_addr":
            return inet_ntop(AF_INET, data)
        case "ipv6_addr":
            return inet_ntop(AF_INET6, data)
        case "nf_proto":
            return _VERSION_NAMES.get(data[0], str(data[0]))
        case "inet_proto":
            return _PROTOCOL_NAMES.get(data[0], str(data[0]))
        case "inet_service":
            return str(struct.unpack(">H", data)[0])
        case _:
            assert_never(type)


# Rules


def encode_rule(rule: Rule, family: int = Family.INET) -> list[bytes]:
    """Encode a rule's statements. In a table of both versions of IP, a field of one has the version checked first."""
    encoded: list[bytes] = []
    for statement in rule:
        encoded += _statement(statement, family)
    return encoded


_VERDICTS = {
    "accept": nftables.ACCEPT,
    "drop": nftables.DROP,
    "return": nftables.RETURN,
    "jump": nftables.JUMP,
    "goto": nftables.GOTO,
}


def _statement(statement: Statement, family: int) -> list[bytes]:
    match statement:
        case rules.Is(field, value, inverted):
            return _is(field, value, family, equal=not inverted)
        case rules.InSet(fields, name, inverted):
            return [*_loads(fields, family), nftables.lookup(name, inverted=inverted)]
        case rules.Tracked(what, values):
            return _tracked(what, values)
        case rules.LeadBy(version, fields, name):
            number, port = (Family.IP, 1) if version == "ip" else (Family.IP6, 4)
            found = nftables.lookup(name, mapped=True)
            return [*_loads(fields, family), found, nftables.dnat(number, port)]
        case rules.SetMark(bit):
            keep, turn = struct.pack("=I", 0xFFFFFFFF & ~bit), struct.pack("=I", bit)
            return [nftables.meta(Meta.MARK), nftables.bitwise(keep, turn), nftables.set_meta(Meta.MARK)]
        case rules.HasMark(bit):
            mask = struct.pack("=I", bit)
            return [nftables.meta(Meta.MARK), nftables.bitwise(mask, bytes(4)), nftables.compare(mask)]
        case rules.SetPort(field, port):
            checksum = 6 if field.startswith("udp") else 16
            offset = 2 if field.endswith("dport") else 0
            return [nftables.immediate(struct.pack(">H", port)), nftables.set_payload(offset, 2, checksum)]
        case rules.Masquerade():
            return [nftables.masquerade()]
        case rules.Verdict(word, chain):
            return [nftables.verdict(_VERDICTS[word], chain)]
        case _:
            raise TypeError(statement)


def _tracked(what: str, values: Sequence[str]) -> list[bytes]:
    bits = {"invalid": 1, "established": 2, "related": 4} if what == "state" else {"dnat": 0x20}
    mask = struct.pack("=I", sum(bits[value] for value in values))
    key = Ct.STATE if what == "state" else Ct.STATUS
    return [nftables.ct(key), nftables.bitwise(mask, bytes(4)), nftables.compare(bytes(4), equal=False)]


# Where a field of an IP header is, (offset, bytes), and of which version.
_HEADER_FIELDS: dict[str, tuple[int, int, int]] = {
    "ip saddr": (Family.IP, 12, 4),
    "ip daddr": (Family.IP, 16, 4),
    "ip6 saddr": (Family.IP6, 8, 16),
    "ip6 daddr": (Family.IP6, 24, 16),
}
_META_FIELDS = {
    "iifname": (Meta.IIFNAME, 16),
    "oifname": (Meta.OIFNAME, 16),
    "meta nfproto": (Meta.NFPROTO, 1),
    "meta l4proto": (Meta.L4PROTO, 1),
}
_ADDRESS_KINDS = {"unicast": 1, "local": 2}  # RTN_*, linux/rtnetlink.h


def _is(field: Field, value: str, family: int, *, equal: bool) -> list[bytes]:
    if field in ("iifname", "oifname"):
        return [*_loads((field,), family), nftables.compare(value.encode().ljust(16, b"\0"), equal=equal)]
    if field in _HEADER_FIELDS:
        return _is_address(field, value, family, equal=equal)
    if field in ("fib daddr type", "fib daddr . iif type"):
        flags = Fib.DADDR if field == "fib daddr type" else Fib.DADDR | Fib.IIF
        return [nftables.fib_type(flags), nftables.compare(struct.pack("=I", _ADDRESS_KINDS[value]), equal=equal)]
    protocol = bytes((_PROTOCOLS[field[:3]],))
    loaded = nftables.payload(PayloadBase.TRANSPORT, 2 if field.endswith("dport") else 0, 2)
    port = nftables.compare(struct.pack(">H", int(value)), equal=equal)
    return [nftables.meta(Meta.L4PROTO), nftables.compare(protocol), loaded, port]


def _is_address(field: Field, value: str, family: int, *, equal: bool) -> list[bytes]:
    version, offset, length = _HEADER_FIELDS[field]
    address, _, prefix = value.partition("/")
    encoded = inet_pton(AF_INET if version == Family.IP else AF_INET6, address)
    if prefix:  # of whole bytes
        length = int(prefix) // 8
    loaded = nftables.payload(PayloadBase.NETWORK, offset, length)
    return [*_only(version, family), loaded, nftables.compare(encoded[:length], equal=equal)]


def _only(version: int, family: int) -> list[bytes]:
    """Go on for packets of one version of IP, in a table that sees both."""
    if family != Family.INET:
        return []
    return [nftables.meta(Meta.NFPROTO), nftables.compare(bytes((version,)))]


def _loads(fields: Sequence[Field], family: int) -> list[bytes]:
    """Load fields into registers, one after another, each beginning at a whole register."""
    encoded: list[bytes] = []
    register = 0
    for field in fields:
        if field in _HEADER_FIELDS:
            version, offset, length = _HEADER_FIELDS[field]
            encoded += _only(version, family)
            encoded.append(nftables.payload(PayloadBase.NETWORK, offset, length, register))
        elif field == "th dport":
            length = 2
            encoded.append(nftables.payload(PayloadBase.TRANSPORT, 2, 2, register))
        else:
            key, length = _META_FIELDS[field]
            encoded.append(nftables.meta(key, register))
        register += _padded(length) // 4
    return encoded


HOOKS = {"prerouting": Hook.PREROUTING, "input": Hook.INPUT, "forward": Hook.FORWARD, "output": Hook.OUTPUT,
         "postrouting": Hook.POSTROUTING}  # fmt: skip
"""The hooks by the names that nft(8) gives them."""
