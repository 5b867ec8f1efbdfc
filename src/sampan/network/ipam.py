"""Which subnet a new network gets, and which addresses its containers get. Pure.

Subnets come from Docker's own default pools, in Docker's order, and then in smaller pieces, so that more than 31
networks fit; what the host routes already (VPNs), or another network has, is left out.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import TYPE_CHECKING

from sampan.errors import Conflict, Failed, InvalidInput, NotPermitted
from sampan.spec.network import Subnet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Net = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Docker's defaults (libnetwork/ipamutils), then /24 pieces of the same ranges, then those that Podman takes.
_POOLS = (
    *((f"172.{second}.0.0/16", 16) for second in range(17, 32)),
    ("192.168.0.0/16", 20),
    ("172.16.0.0/12", 24),
    ("192.168.0.0/16", 24),
    *((f"10.{second}.0.0/16", 24) for second in range(89, 256)),
)
_IPV6_PIECE = 64


def check(subnets: Sequence[Subnet], *, ipv6: bool) -> None:
    """Raise InvalidInput, in Docker's words, with everything that is wrong with subnets that a user gave."""
    wrong = [text for subnet in subnets for text in _wrong(subnet, ipv6=ipv6)]
    if wrong:
        raise InvalidInput("invalid network config:\n" + "\n".join(wrong))


def _wrong(given: Subnet, *, ipv6: bool) -> Iterator[str]:
    try:
        interface = ipaddress.ip_interface(given.subnet if _is_block(given.subnet) else "")
    except ValueError:
        yield f"invalid subnet {given.subnet}: invalid CIDR block notation"
        return
    net = interface.network
    if net.version == 6 and not ipv6:
        return
    if interface.ip != net.network_address:
        yield f"invalid subnet {given.subnet}: it should be {net}"
    if net.is_multicast or net.is_loopback or net.network_address.is_unspecified:
        yield f"invalid subnet {given.subnet}: containers can't have addresses of it"
    if given.ip_range:
        yield from _wrong_range(given.ip_range, net)
    if given.gateway and (why := _wrong_address(given.gateway, net)):
        yield f"invalid gateway {given.gateway}: {why}"
        return
    for name, address in given.auxiliary.items():
        if why := _wrong_address(address, net):
            yield f"invalid auxiliary address {name}: {why}"
        elif given.gateway and ipaddress.ip_address(address) == ipaddress.ip_address(given.gateway):
            yield f"failed to allocate gateway ({given.gateway}): Address already in use: it is the auxiliary {name}"


def _is_block(text: str) -> bool:
    return "/" in text and "%" not in text  # an address may be on one link only, a network's are on its own


def _wrong_range(text: str, net: Net) -> Iterator[str]:
    try:
        interface = ipaddress.ip_interface(text if _is_block(text) else "")
    except ValueError:
        yield f"invalid ip-range {text}: invalid CIDR block notation"
        return
    inner = interface.network
    if inner.version != net.version:
        yield f"invalid ip-range {text}: parent subnet is an IPv{net.version} block"
        return
    if inner.prefixlen < net.prefixlen:
        yield f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {net}"
    if interface.ip != inner.network_address:
        yield f"invalid ip-range {text}: it should be {inner}"
    if not inner.overlaps(net):
        yield f"invalid ip-range {text}: parent subnet {net} doesn't contain ip-range"


def _wrong_address(text: str, net: Net) -> str:
    try:
        address = ipaddress.ip_address("" if "%" in text else text)
    except ValueError:
        return "invalid address"
    if address.version != net.version:
        return f"parent subnet is an IPv{net.version} block"
    return "" if address in net else f"parent subnet {net} doesn't contain this address"


# ------------------------------------------------------------------------------------------------------- subnets


def subnets(given: Sequence[Subnet], versions: Sequence[int], taken: Sequence[str], seed: str) -> tuple[Subnet, ...]:
    """Return the subnets of a new network, complete: those given, and one for each version that none is given for.

    `taken` are what other networks have and what the host routes; a given one may overlap a route, but see `overlap`.
    `seed` is the same for all networks of an instance: its IPv6 prefix is made of it (RFC 4193).
    """
    result = [_normal(subnet) for subnet in given if subnet.version in versions]
    others = [ipaddress.ip_network(text) for text in taken]
    for version in versions:
        if not any(subnet.version == version for subnet in result):
            free = choose_ipv4(others) if version == 4 else choose_ipv6(others, seed)
            result.append(Subnet(subnet=str(free)))
    return tuple(sorted((_with_gateway(subnet) for subnet in result), key=lambda subnet: subnet.version))


def _normal(given: Subnet) -> Subnet:
    """Return it with every address in its shortest form."""
    return Subnet(
        subnet=str(ipaddress.ip_network(given.subnet)),
        gateway=str(ipaddress.ip_address(given.gateway)) if given.gateway else "",
        ip_range=str(ipaddress.ip_network(given.ip_range)) if given.ip_range else "",
        auxiliary={name: str(ipaddress.ip_address(address)) for name, address in given.auxiliary.items()},
        given=True,
    )


def _with_gateway(subnet: Subnet) -> Subnet:
    if subnet.gateway:
        return subnet
    try:
        first = str(Pool(subnet).lowest())
    except Failed:
        raise InvalidInput(f"invalid subnet {subnet.subnet}: no address is left in it for the gateway") from None
    return Subnet(
        subnet=subnet.subnet,
        gateway=first,
        ip_range=subnet.ip_range,
        auxiliary=subnet.auxiliary,
        given=subnet.given,
    )


def overlap(subnet: str, others: Iterable[str]) -> str:
    """Return which of `others` a subnet overlaps, "" for none."""
    net = ipaddress.ip_network(subnet)
    for other in others:
        if _overlaps(net, ipaddress.ip_network(other)):
            return other
    return ""


def _overlaps(one: Net, other: Net) -> bool:
    if isinstance(one, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and one.overlaps(other)
    return isinstance(other, ipaddress.IPv6Network) and one.overlaps(other)


def choose_ipv4(taken: Sequence[Net]) -> Net:
    """Return the first free piece of the pools. Raises Conflict when there is none."""
    busy = _ranges(taken, 4)
    for base, prefix in _POOLS:
        if free := _first_free(ipaddress.IPv4Network(base), prefix, busy):
            return free
    raise Conflict(
        "all predefined address pools have been fully subnetted",
        "remove networks that are not used (network prune), or name a free one with --subnet",
    )


def choose_ipv6(taken: Sequence[Net], seed: str) -> Net:
    """Return the first free /64 of the unique local /48 that is made of `seed`."""
    digits = hashlib.sha256(seed.encode()).hexdigest()[:10]
    pool = ipaddress.IPv6Network((int(f"fd{digits}", 16) << 80, 48))
    if free := _first_free(pool, _IPV6_PIECE, _ranges(taken, 6)):
        return free
    raise Conflict("all predefined IPv6 address pools have been fully subnetted", "name a subnet with --subnet")


def _ranges(nets: Iterable[Net], version: int) -> list[tuple[int, int]]:
    return sorted((int(net.network_address), int(net.broadcast_address)) for net in nets if net.version == version)


def _first_free(pool: Net, prefix: int, busy: list[tuple[int, int]]) -> Net | None:
    size = 1 << (pool.max_prefixlen - prefix)
    start = int(pool.network_address)
    for low, high in busy:
        if low >= start + size:
            break
        if high >= start:
            start = (high // size + 1) * size
    return type(pool)((start, prefix)) if start + size - 1 <= int(pool.broadcast_address) else None


# ----------------------------------------------------------------------------------------------------- addresses


class Pool:
    """The addresses of one subnet: which are given away. Not for two threads at once."""

    def __init__(self, subnet: Subnet) -> None:
        net = ipaddress.ip_network(subnet.subnet)
        inner = ipaddress.ip_network(subnet.ip_range) if subnet.ip_range else net
        self.version = net.version
        self.gateway = subnet.gateway
        self._net = net
        self._first, self._last = int(inner.network_address), int(inner.broadcast_address)
        self._reserved = {int(ipaddress.ip_address(text)) for text in subnet.auxiliary.values()}
        if subnet.gateway:
            self._reserved.add(int(ipaddress.ip_address(subnet.gateway)))
        if net.max_prefixlen - net.prefixlen > 1:  # RFC 3021: both addresses of a /31 are hosts'
            self._reserved.add(int(net.network_address))
            if net.version == 4:
                self._reserved.add(int(net.broadcast_address))
        self._used: set[int] = set()
        self._lowest = self._first

    def __contains__(self, address: str) -> bool:
        """Tell whether an address, with or without its prefix, is of this subnet."""
        found = ipaddress.ip_address(address.partition("/")[0])
        return found.version == self._net.version and found in self._net

    def lowest(self) -> Address:
        """Return the lowest free address. Raises Failed when every one is given away."""
        number = self._lowest
        while number in self._used or number in self._reserved:
            number += 1
        self._lowest = number
        if number > self._last:
            raise Failed(f"no available IPv{self._net.version} addresses on this network's address pools")
        return self._address(number)

    def take(self, wanted: str = "") -> str:
        """Give away the lowest free address, or `wanted`; return it with the prefix. Raises NotPermitted if in use."""
        address = ipaddress.ip_address(wanted) if wanted else self.lowest()
        number = int(address)
        if wanted and (number in self._used or number in self._reserved):
            what = "reserved" if number in self._reserved else "another container's"
            raise NotPermitted("Address already in use", f"{address} is {what}: choose another, or none")
        self._used.add(number)
        return f"{address}/{self._net.prefixlen}"

    def hold(self, address: str) -> None:
        """Note that an address is given away already."""
        self._used.add(int(ipaddress.ip_address(address.partition("/")[0])))

    def give_back(self, address: str) -> None:
        """Let an address, with or without its prefix, be given away again."""
        number = int(ipaddress.ip_address(address.partition("/")[0]))
        self._used.discard(number)
        if self._first <= number < self._lowest:
            self._lowest = number

    def _address(self, number: int) -> Address:
        return ipaddress.IPv4Address(number) if self._net.version == 4 else ipaddress.IPv6Address(number)


def mac_of(address: str) -> str:
    """Return the MAC address that Docker long gave whoever had this IPv4 address.

    An address and its MAC go together: a container that gets another's old address is found by who still knows that.
    For IPv6 alone it is made of the address's hash.
    """
    parsed = ipaddress.ip_address(address.partition("/")[0])
    last = parsed.packed if parsed.version == 4 else hashlib.sha256(parsed.packed).digest()[:4]
    return "02:42:" + last.hex(":")
