"""Networks in Docker's form: what `network inspect` and `network ls` show, and which of them pass a filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine.filtering import check, has_label, search, truth
from sampan.errors import InvalidInput
from sampan.spec import docker
from sampan.units import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sampan.engine.requests import Filters
    from sampan.spec.network import Endpoint, Network, Subnet

_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})


def body(network: Network, containers: Mapping[str, docker.NetworkContainer] | None = None) -> docker.Network:
    """Return a network in Docker's form."""
    made = network.driver not in ("host", "null")
    return docker.Network(
        name=network.name,
        id=network.id,
        created=format_timestamp(network.created_ns),
        driver=network.driver,
        enable_ipv4=network.ipv4 or not made,
        enable_ipv6=network.ipv6,
        ipam=docker.Ipam(
            options=None if network.predefined else dict(network.ipam_options),
            config=tuple(_config(subnet) for subnet in network.subnets) if made else None,
        ),
        internal=network.internal,
        attachable=network.attachable,
        containers=dict(containers or {}),
        options=dict(network.options),
        labels=dict(network.labels),
    )


def _config(subnet: Subnet) -> docker.IpamConfig:
    return docker.IpamConfig(
        subnet=subnet.subnet,
        ip_range=subnet.ip_range,
        gateway=subnet.gateway,
        auxiliary_addresses=subnet.auxiliary or None,
    )


def container(endpoint: Endpoint, name: str) -> docker.NetworkContainer:
    """Return a container's place on a network, as the network's inspect shows it."""
    return docker.NetworkContainer(
        name=name,
        endpoint_id=endpoint.id,
        mac_address=endpoint.mac,
        ipv4_address=next((a for a in endpoint.addresses if ":" not in a), ""),
        ipv6_address=next((a for a in endpoint.addresses if ":" in a), ""),
    )


def passing(networks: Iterable[Network], used: frozenset[str], filters: Filters) -> list[Network]:
    """Return those that pass; `used` are the ids of those that a container is on."""
    check(filters, _FILTERS)
    dangling = truth(filters, "dangling")
    for value in filters.get("type", ()):
        if value not in ("builtin", "custom"):
            raise InvalidInput(f"invalid filter: 'type'='{value}'", "it is builtin or custom")
    found = [network for network in networks if all(_passes(network, *each) for each in filters.items())]
    if dangling is None:
        return found
    return [network for network in found if (not network.predefined and network.id not in used) is dangling]


def _passes(network: Network, name: str, values: tuple[str, ...]) -> bool:
    match name:
        case "label":
            return all(has_label(network.labels, value) for value in values)
        case "driver":
            return network.driver in values
        case "id":
            return any(search(value, network.id) for value in values)
        case "name":
            return any(search(value, network.name) for value in values)
        case "scope":
            return "local" in values
        case "type":
            return ("builtin" if network.predefined else "custom") in values
        case _:  # dangling, which is looked at for all together
            return True
