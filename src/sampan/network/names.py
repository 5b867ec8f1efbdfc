"""The file of a network's names, RUN/networks/ID.names: written by the server, searched by every shim on the network.

    sampan names 1 NETWORK SUBNET…
    NAME ADDRESS…          a name and who has it; no address: whose container does not run
    <tab>REVERSE NAME      of an address: 2.0.18.172.in-addr.arpa

It is searched as it is, never decoded: all shims share its pages, however many names there are. Names are in lower
case.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable

    from sampan.spec.network import Endpoint, Network

_MAGIC = b"sampan names 1 "
_IPV4, _IPV6 = b".in-addr.arpa", b".ip6.arpa"
_LONGEST = 253


def text(network: Network, endpoints: Iterable[Endpoint], absent: Iterable[str] = ()) -> bytes:
    """Return the file's content; `absent` are names of the network's containers that don't run."""
    addresses: dict[bytes, list[bytes]] = {key: [] for name in absent if (key := _key(name))}
    reverse = []
    for endpoint in endpoints:
        own = [a.partition("/")[0].encode() for a in endpoint.addresses]
        for name in dict.fromkeys(endpoint.names):
            if key := _key(name):
                addresses.setdefault(key, []).extend(own)
        if endpoint.names:
            first = f"{endpoint.names[0]}.{network.name}"
            reverse += [b"\t%s %s\n" % (reversed_name(address), first.encode()) for address in own]
    head = " ".join((network.name, *(s.subnet for s in network.subnets))).encode()
    lines = [b"%s %s\n" % (name, b" ".join(dict.fromkeys(found))) for name, found in sorted(addresses.items())]
    return b"".join((_MAGIC, head, b"\n", *lines, *reverse))


def _key(name: str) -> bytes:
    """Return a name as it is asked for; b"" where nobody can ask for it."""
    key = name.encode(errors="replace").lower()
    return b"" if len(key) > _LONGEST or any(not 0x20 < byte < 0x7F for byte in key) else key


def reversed_name(address: bytes) -> bytes:
    """Return the name under which an address's own name is asked for."""
    if b":" not in address:
        return b".".join(reversed(address.split(b"."))) + _IPV4
    digits = socket.inet_pton(socket.AF_INET6, address.decode()).hex()
    return ".".join(reversed(digits)).encode() + _IPV6


class Head(NamedTuple):
    """What the first line says."""

    suffix: bytes  # what names of this network may end with
    subnets: tuple[tuple[int, int, int], ...]  # (length of an address in bits, of the prefix, its bits)


def read_head(data: bytes | mmap.mmap) -> Head:
    """Read the first line."""
    line = data[: max(data.find(b"\n"), 0)]
    if not line.startswith(_MAGIC):
        return Head(b"", ())
    network, *subnets = line.removeprefix(_MAGIC).split(b" ")
    return Head(b"." + network.lower(), tuple(_subnet(subnet) for subnet in subnets if subnet))


def _subnet(text: bytes) -> tuple[int, int, int]:
    address, _, length = text.partition(b"/")
    packed = packed_address(address)
    bits = len(packed) * 8
    return bits, int(length), int.from_bytes(packed, "big") >> (bits - int(length))


def find(data: bytes | mmap.mmap, head: Head, name: bytes) -> list[bytes] | None:
    """Return the addresses of a name; none where its container does not run; None where it is no name of these."""
    found = _line(data, b"\n" + name + b" ")
    if found is None and head.suffix and name.endswith(head.suffix):
        found = _line(data, b"\n" + name[: -len(head.suffix)] + b" ")
    return found if found is None else [packed_address(address) for address in found]


def find_reverse(data: bytes | mmap.mmap, head: Head, name: bytes) -> str | None:
    """Return the name at an address: "" where the address is in the network and nobody's, None where it is not."""
    found = _line(data, b"\n\t" + name + b" ")
    if found:
        return found[0].decode()
    packed = _address(name)
    value, bits = int.from_bytes(packed, "big"), len(packed) * 8
    for size, length, prefix in head.subnets:
        if bits == size and value >> (bits - length) == prefix:
            return ""
    return None


def _line(data: bytes | mmap.mmap, key: bytes) -> list[bytes] | None:
    at = data.find(key)
    if at < 0:
        return None
    at += len(key)
    return data[at : data.find(b"\n", at)].split()


def _address(name: bytes) -> bytes:
    """Return the address that a reverse name is of; b"" where it is none."""
    try:
        if name.endswith(_IPV4):
            return packed_address(b".".join(reversed(name[: -len(_IPV4)].split(b"."))))
        if name.endswith(_IPV6):
            nibbles = name[: -len(_IPV6)].split(b".")
            digits = b"".join(reversed(nibbles)).decode()
            return bytes.fromhex(digits) if len(nibbles) == 32 else b""
    except (OSError, ValueError):
        pass
    return b""


def packed_address(address: bytes) -> bytes:
    """Return an address as records have it. Raises OSError where it is none."""
    return socket.inet_pton(socket.AF_INET6 if b":" in address else socket.AF_INET, address.decode())
