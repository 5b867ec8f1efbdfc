"""Bodies of sampan's own about who reaches the published ports."""

from __future__ import annotations

from typing import Literal

from sampan.spec.docker.body import Body, always

Reach = Literal["world", "neighbours", "host", "nobody"]


class ExposedPort(Body, frozen=True, kw_only=True):
    """A published port of a running container, who reaches it, and by which rule.

    `reach`: "world" where an address of the host that it is published on is a public one, "neighbours" where all are of
    private networks, "host" where they are of its loopback, "nobody" where something is in the way.
    """

    container: str = always("")
    container_id: str = always("", "ContainerId")
    protocol: str = always("tcp")
    host_ip: str = always("", "HostIp")
    host_port: int = always(0)
    target: str = always("")  # "172.17.0.2:80"
    reach: Reach = always("nobody")
    addresses: tuple[str, ...] = always(())  # the host's, by which it is reached
    rule: str = always("")  # what lets packets to it through, or what doesn't


class NetworkAudit(Body, frozen=True, kw_only=True):
    """All published ports, and what was changed on the host for networks."""

    ports: tuple[ExposedPort, ...] = always(())
    changes: tuple[str, ...] = always(())
