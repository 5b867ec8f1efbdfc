"""A container's networks as `inspect` and `ps` show them, filled as Docker fills them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.engine import endpoints
from sampan.engine.merge import joined
from sampan.engine.port_bindings import port_map
from sampan.spec.docker import EndpointSettings, NetworkSettings
from sampan.spec.network import DEFAULT

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.port_bindings import Bindings
    from sampan.engine.registry import Container
    from sampan.spec.network import Endpoint


def network_settings(core: Core, container: Container) -> NetworkSettings:
    """Return `NetworkSettings` of inspect: the addresses beside `Networks` are those on the default bridge."""
    shown = networks(core, container)
    bridge = shown.get(DEFAULT, EndpointSettings())
    return NetworkSettings(
        sandbox_id=container.id if container.running and shown else "",
        sandbox_key=f"/proc/{container.state.pid}/ns/net" if container.running and shown else "",
        ports=published(container),
        endpoint_id=bridge.endpoint_id,
        gateway=bridge.gateway,
        global_ipv6_address=bridge.global_ipv6_address,
        global_ipv6_prefix_len=bridge.global_ipv6_prefix_len,
        ip_address=bridge.ip_address,
        ip_prefix_len=bridge.ip_prefix_len,
        ipv6_gateway=bridge.ipv6_gateway,
        mac_address=bridge.mac_address,
        networks=shown,
    )


def published(container: Container) -> Bindings:
    """Return the ports of a container that runs on a network, those that are only exposed as well."""
    return port_map(container.body, container.state.ports) if container.state.endpoints else {}


def networks(core: Core, container: Container) -> dict[str, EndpointSettings]:
    """Return its settings on each network by the network's name, with what a running container has there."""
    mode = container.body.host_config.network_mode
    if joined(mode):
        return {}
    here = {endpoint.network: endpoint for endpoint in container.state.endpoints}
    places = endpoints.places(container)
    if not places and not endpoints.own_network(mode):
        id = container.id if container.running else ""
        return {mode: EndpointSettings(network_id=core.networks.find(mode).id, endpoint_id=id)}
    return {
        name: _shown(container, settings, here.get(settings.network_id), default=name == DEFAULT)
        for name, settings in sorted(places.items())
    }


def _shown(
    container: Container, settings: EndpointSettings, endpoint: Endpoint | None, *, default: bool
) -> EndpointSettings:
    named = msgspec.structs.replace(settings, dns_names=endpoints.names(container, settings, default=default) or None)
    if endpoint is None:
        return named
    gateways = {":" in gateway: gateway for gateway in endpoint.gateways}
    lengths = {":" in address: int(address.partition("/")[2]) for address in endpoint.addresses}
    return msgspec.structs.replace(
        named,
        mac_address=endpoint.mac,
        endpoint_id=endpoint.id,
        gateway=gateways.get(False, ""),
        ip_address=endpoint.ipv4,
        ip_prefix_len=lengths.get(False, 0),
        ipv6_gateway=gateways.get(True, ""),
        global_ipv6_address=endpoint.ipv6,
        global_ipv6_prefix_len=lengths.get(True, 0),
    )
