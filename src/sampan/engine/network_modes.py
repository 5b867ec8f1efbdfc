"""What can't be asked of a container that has no network of its own, in Docker's words. Pure.

moby, runconfig/hostconfig_unix.go, validateNetMode. What the image exposes is no matter, so it is the request that is
looked at, before it is completed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine.merge import joined
from sampan.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.spec.docker import ContainerCreate


def check(body: ContainerCreate) -> None:
    """Raise InvalidInput for what would have no effect, or one on another container."""
    mode = body.host_config.network_mode
    for given, text in _of_another_container(body) if joined(mode) else _of_the_host(body) if mode == "host" else ():
        if given:
            raise InvalidInput(f"conflicting options: {text}", f"leave it out, or --network {mode}")


def _of_the_host(body: ContainerCreate) -> Iterable[tuple[object, str]]:
    undefined = "This would result in undefined behavior"
    yield body.host_config.links, f"host type networking can't be used with links. {undefined}"
    yield body.mac_address, "mac-address and the network mode"


def _of_another_container(body: ContainerCreate) -> Iterable[tuple[object, str]]:
    host_config = body.host_config
    undefined = "This would result in undefined behavior"
    yield host_config.links, f"container type network can't be used with links. {undefined}"
    yield host_config.dns, "dns and the network mode"
    yield host_config.extra_hosts, "custom host-to-IP mapping and the network mode"
    yield body.mac_address, "mac-address and the network mode"
    published = host_config.port_bindings or host_config.publish_all_ports
    yield published, "port publishing and the container type network mode"
    yield body.exposed_ports, "port exposing and the container type network mode"
