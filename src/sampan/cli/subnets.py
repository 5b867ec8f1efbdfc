"""The subnets of a new network out of flags that each name a part of one; docker/cli, network/create.go.

A range, a gateway or an address belongs to every subnet that it lies in.
"""

from __future__ import annotations

import ipaddress

from sampan.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.flags import Options

    Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
    Pools = dict[str, dict[str, Any]]


def subnets_of(options: Options) -> list[dict[str, Any]]:
    """Return the API's form of --subnet, --ip-range, --gateway and --aux-address. Raises Failure."""
    subnets = options["subnet"]
    if len(subnets) < len(options["ip-range"]) or len(subnets) < len(options["gateway"]):
        raise Failure("every ip-range or gateway must have a corresponding subnet", "give --subnet for each")
    pools: Pools = {}
    for subnet in subnets:
        if any(_contains(subnet, other) or _contains(other, subnet) for other in pools):
            raise Failure("multiple overlapping subnet configuration is not supported")
        pools[subnet] = {"Subnet": subnet}
    for text in options["ip-range"]:
        _interface(text)
        _assign(pools, text, "IPRange", "range")
    for text in options["gateway"]:
        _assign(pools, text, "Gateway", "gateway")
    for name, text in options["aux-address"]:
        for subnet in _matching(pools, text, "aux-address"):
            pools[subnet].setdefault("AuxiliaryAddresses", {})[name] = text
    return list(pools.values())


def _assign(pools: Pools, text: str, field: str, word: str) -> None:
    for subnet in _matching(pools, text, word):
        if field in pools[subnet]:
            both = f"({text}, {pools[subnet][field]})"
            on = "on the same subnet" if word == "range" else "for the same subnet"
            raise Failure(f"cannot configure multiple {word}s {both} {on} ({subnet})")
        pools[subnet][field] = text


def _matching(pools: Pools, text: str, word: str) -> list[str]:
    matching = [subnet for subnet in pools if _contains(subnet, text)]
    if not matching:
        raise Failure(f"no matching subnet for {word} {text}", f"it must lie in a --subnet; given: {', '.join(pools)}")
    return matching


def _contains(subnet: str, text: str) -> bool:
    """Tell whether an address, or that of an interface, lies in a subnet."""
    try:
        within = _interface(subnet).network
    except Failure as e:
        raise Failure(f"invalid subnet: {e.message}") from None
    if "/" in text:
        return _interface(text).ip in within
    try:
        return ipaddress.ip_address(text) in within
    except ValueError:
        return False


def _interface(text: str) -> Interface:
    """Read an address with the length of its prefix, as Go's ParseCIDR does."""
    length = text.partition("/")[2]
    if length.isascii() and length.isdigit():
        try:
            return ipaddress.ip_interface(text)
        except ValueError:
            pass
    raise Failure(f"invalid CIDR address: {text}", "an address and the length of its prefix: 172.28.0.0/16")
