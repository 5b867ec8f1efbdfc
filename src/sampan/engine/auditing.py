"""`network audit`: which published ports the world reaches, and which rule lets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.network.audit import audit
from sampan.spec.docker.audit import ExposedPort, NetworkAudit

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.network.audit import Facts
    from sampan.spec.network import PublishedPort


def network_audit(core: Core) -> NetworkAudit:
    """Tell of every published port of a running container."""
    facts = core.firewall.facts()
    found = [
        _port(container, addresses, port, facts)
        for container in core.registry
        if (sandbox := container.sandbox) is not None
        for addresses, ports in (sandbox.published,)
        for port in ports
    ]
    return NetworkAudit(ports=tuple(found), changes=facts.changes)


def _port(container: Container, addresses: tuple[str, ...], port: PublishedPort, facts: Facts) -> ExposedPort:
    found = audit(addresses, port, facts)
    return ExposedPort(
        container=container.name,
        container_id=container.id,
        protocol=port.protocol,
        host_ip=port.host_address,
        host_port=port.host_port,
        target=found.target,
        reach=found.reach,
        addresses=found.addresses,
        rule=found.rule,
    )
