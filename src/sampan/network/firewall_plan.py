"""What is in the sets and maps of sampan's table: computed from networks and published ports. Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from sampan.network.firewall_ops import AddElements, Element, FlushFlows, MakeTable, RemoveElements, SetSysctl

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from sampan.network.firewall_ops import FirewallOperation
    from sampan.spec.network import Network, PublishedPort

Contents = dict[tuple[str, tuple[str, ...]], tuple[str, ...]]
"""All elements of a table: (set, key) → data."""


def table_name(instance: str) -> str:
    """Return the name of an instance's table, of family inet."""
    return f"sampan-{instance}"


def network_elements(network: Network) -> tuple[Element, ...]:
    """Return what the table must know of a network; nothing of one that is no bridge."""
    if network.driver != "bridge" or not network.link:
        return ()
    link = network.link
    elements = [Element("bridges", (link,))]
    if network.internal:
        elements.append(Element("internal", (link,)))
    if network.inter_container:
        elements.append(Element("within", (link, link)))
    for subnet in network.subnets:
        elements.append(Element(f"subnets{subnet.version}", (_canonical_subnet(subnet.subnet),)))
        if network.masquerade and not network.internal:
            elements.append(Element(f"masqueraded{subnet.version}", (_canonical_subnet(subnet.subnet),)))
    return tuple(elements)


def port_elements(addresses: Sequence[str], ports: Iterable[PublishedPort]) -> tuple[Element, ...]:
    """Return the elements that lead ports to a container, those of a version of which it has no address left out."""
    own = {6 if ":" in each else 4: _canonical(each.partition("/")[0]) for each in reversed(addresses)}
    elements = []
    for port in ports:
        for host in (port.host_address,) if port.host_address else ("0.0.0.0", "::"):
            version = 6 if ":" in host else 4
            if version in own and port.host_port:
                elements.append(_port_element(port, _canonical(host), version, own[version]))
    return tuple(elements)


def _port_element(port: PublishedPort, host: str, version: int, address: str) -> Element:
    key: tuple[str, ...] = (port.protocol, str(port.host_port))
    data = (address, str(port.container_port))
    if host in ("0.0.0.0", "::"):
        return Element(f"every{version}", key, data)
    return Element(f"one{version}", (host, *key), data)


def _canonical(address: str) -> str:
    return str(ip_address(address)) if ":" in address else address


def _canonical_subnet(subnet: str) -> str:
    address, _, prefix = subnet.partition("/")
    return f"{_canonical(address)}/{prefix}"


def contents(elements: Iterable[Element]) -> Contents:
    """Return elements as a table's contents."""
    return {(e.set, e.key): e.data for e in elements}


def difference(wanted: Contents, found: Contents) -> tuple[tuple[Element, ...], tuple[Element, ...]]:
    """Return what is to be removed and what is to be added; what leads elsewhere is both."""
    gone = tuple(Element(*key, data) for key, data in sorted(found.items()) if wanted.get(key) != data)
    new = tuple(Element(*key, data) for key, data in sorted(wanted.items()) if found.get(key) != data)
    return gone, new


def whole(instance: str, wanted: Contents, *, anew: bool = False) -> tuple[FirewallOperation, ...]:
    """Return the operations that make the table, in one transaction."""
    table = table_name(instance)
    return (MakeTable(table, anew), *change(instance, (), tuple(Element(*k, d) for k, d in sorted(wanted.items()))))


def change(instance: str, gone: tuple[Element, ...], new: tuple[Element, ...]) -> tuple[FirewallOperation, ...]:
    """Return the operations that change what is in the table, in one transaction."""
    table = table_name(instance)
    removed = (RemoveElements(table, gone),) if gone else ()
    added = (AddElements(table, new),) if new else ()
    return (*removed, *added)


SURROUNDINGS = ("marked", "closed")
"""The sets that tell what the host around the table is like; the others tell what networks and ports there are."""


def surroundings(marked: Iterable[str], closed: Iterable[str]) -> tuple[Element, ...]:
    """Return what the table must know of the host: of which versions of IP others drop what is forwarded, and …"""
    return (
        *(Element("marked", (v,)) for v in sorted(set(marked))),
        *(Element("closed", (v,)) for v in sorted(set(closed))),
    )


def surroundings_in(contents: Contents) -> Contents:
    """Return what the table knows of the host."""
    return {key: data for key, data in contents.items() if key[0] in SURROUNDINGS}


def without_surroundings(contents: Contents) -> Contents:
    """Return what networks and ports alone have in the table."""
    return {key: data for key, data in contents.items() if key[0] not in SURROUNDINGS}


def forwarding(networks: Iterable[Network]) -> tuple[SetSysctl, ...]:
    """Return the switches of the host that networks need: packets of those that aren't internal are forwarded."""
    reaching = [n for n in networks if n.driver == "bridge" and not n.internal]
    versions = {s.version for n in reaching for s in n.subnets}
    needed = ((4, "net.ipv4.ip_forward"), (6, "net.ipv6.conf.all.forwarding"))
    return tuple(SetSysctl(name, "1") for version, name in needed if version in versions)


def loopback(network: Network, elements: Iterable[Element]) -> tuple[SetSysctl, ...]:
    """Return the switch without which the host's 127.0.0.1 can't be led to a container on this network's bridge."""
    return (local_routes(network),) if any(map(is_from_loopback, elements)) else ()


def local_routes(network: Network) -> SetSysctl:
    """Return the switch that lets 127.0.0.0/8 be routed to and from a bridge."""
    return SetSysctl(f"net.ipv4.conf.{network.link.replace('.', '/')}.route_localnet", "1")


def is_from_loopback(element: Element) -> bool:
    """Tell whether a port is reached by the host's 127.0.0.1."""
    return element.set == "every4" or (element.set == "one4" and element.key[0].startswith("127."))


def is_on(network: Network, address: str) -> bool:
    """Tell whether an address is of one of a network's subnets."""
    version = 6 if ":" in address else 4
    return any(s.version == version and ip_address(address) in _parsed(s.subnet) for s in network.subnets)


@lru_cache(1024)
def _parsed(subnet: str) -> IPv4Network | IPv6Network:
    return ip_network(subnet)


def udp_ports(elements: Iterable[Element]) -> tuple[int, ...]:
    """Return the ports of the host whose UDP flows end, or begin anew, with these elements."""
    return tuple(sorted({int(e.key[-1]) for e in elements if e.data and e.key[-2] == "udp"}))


def forgetting(elements: Iterable[Element]) -> tuple[FlushFlows, ...]:
    """Return the operations after which UDP goes where ports lead now."""
    return tuple(map(FlushFlows, udp_ports(elements)))


def taken(elements: Iterable[Element], found: Contents) -> Element | None:
    """Return a port that one of `elements` is for and that leads elsewhere already, and whither."""
    for each in elements:
        data = found.get((each.set, each.key), each.data)
        if data != each.data:
            return Element(each.set, each.key, data)
    return None
