"""Who reaches the published ports of containers, and which rule lets them. Pure.

It looks at what the kernel has, not at what we remember: at the elements of our table, at others' chains that drop
what is forwarded, at the switches. What others' chains drop in between, port by port, it doesn't know.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from sampan.network import firewall_plan as plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.network.firewall_plan import Contents
    from sampan.spec.docker.audit import Reach
    from sampan.spec.network import PublishedPort


class Obstacle(NamedTuple):
    """Another's chain that drops what is forwarded; `accepted`: it has our accept."""

    chain: str
    versions: tuple[str, ...]
    accepted: bool


class Facts(NamedTuple):
    """What there is on this host."""

    table: str
    contents: Contents | None  # None: the table is missing, or damaged
    obstacles: tuple[Obstacle, ...]
    forwarded: tuple[str, ...]  # the versions of IP
    addresses: tuple[str, ...]  # the host's, with its loopback's, without those of our bridges
    changes: tuple[str, ...]  # what we have changed of the host


class Finding(NamedTuple):
    """What was found of one port: `rule` lets packets through, or doesn't."""

    target: str
    reach: Reach
    addresses: tuple[str, ...]
    rule: str


def audit(addresses: Sequence[str], port: PublishedPort, facts: Facts) -> Finding:
    """Tell who reaches a port that is published to a container with these addresses."""
    elements = plan.port_elements(addresses, (port,))
    if not elements:
        return _relayed(addresses, port, facts)
    element = elements[0]
    target = _place(*element.data)
    if facts.contents is None or facts.contents.get((element.set, element.key)) != element.data:
        return Finding(target, "nobody", (), f"it is not in map {element.set} of table inet {facts.table}")
    rule = f"inet {facts.table} map {element.set} {{ {element.nft()} }}"
    reached = _reached(port, facts)
    version = "ipv6" if ":" in element.data[0] else "ipv4"
    dropping = [o for o in facts.obstacles if version in o.versions]
    closed = next((o for o in dropping if not o.accepted), None)
    if version not in facts.forwarded or closed is not None:
        why = f"{closed.chain} drops what is forwarded" if closed else f"the host forwards no {version}"
        return Finding(target, "host" if reached else "nobody", _loopback(reached), why)
    reach = _reach(reached)
    forwarding = dropping if reach in ("world", "neighbours") else []  # what the host itself sends isn't forwarded
    return Finding(target, reach, reached, "; ".join([rule, *(f"{o.chain} accepts our mark" for o in forwarding)]))


def _relayed(addresses: Sequence[str], port: PublishedPort, facts: Facts) -> Finding:
    """Tell of a port of a version of IP that the container lacks: its shim relays what comes to the host."""
    reached = _reached(port, facts)
    target = _place(addresses[0].partition("/")[0], str(port.container_port)) if addresses else ""
    return Finding(target, _reach(reached), reached, "the container's shim relays it")


def _reached(port: PublishedPort, facts: Facts) -> tuple[str, ...]:
    host = port.host_address
    if host in ("0.0.0.0", "::"):
        return tuple(a for a in facts.addresses if (":" in a) == (":" in host) and not ip_address(a).is_link_local)
    return (host,) if host in facts.addresses or host.startswith("127.") else ()


def _loopback(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(a for a in addresses if ip_address(a).is_loopback)


def _reach(addresses: tuple[str, ...]) -> Reach:
    parsed = [ip_address(a) for a in addresses]
    if any(a.is_global for a in parsed):
        return "world"
    if any(not a.is_loopback for a in parsed):
        return "neighbours"
    return "host" if parsed else "nobody"


def _place(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
