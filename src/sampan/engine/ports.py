"""The ports that a container publishes: bound by the server at its start, then held by its shim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.engine import endpoints
from sampan.engine.port_bindings import wanted
from sampan.engine.port_sockets import Owners, Reserved, bind_all, sockets_of
from sampan.errors import doing
from sampan.supervise.messages import MAX_DESCRIPTORS, HoldPorts

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from sampan.engine.core import Core
    from sampan.engine.links import Channel, Pending
    from sampan.engine.port_bindings import Wanted
    from sampan.engine.port_sockets import Place
    from sampan.engine.registry import Container
    from sampan.spec.network import PublishedPort

_FEW = 128
"""How many sockets fit beside all else that a launcher hands over."""


def reserve(core: Core, container: Container) -> Reserved:
    """Bind every port that the container's body publishes. Raises Conflict where one is taken.

    Called at each start, with the container's lock held, first of all that a start does for its networks.
    """
    with doing(f"can't start {container.name}"):
        return reserve_more(core, container, wanted(container.body))


def reserve_more(
    core: Core, container: Container, every: Sequence[Wanted], kept: Sequence[PublishedPort] = ()
) -> Reserved:
    """Bind these ports of a container, of which `kept` stay published meanwhile.

    None are where it is on no network from which something can be published.
    """
    address = _host_address(core, container) if every else None
    if address is None:
        return Reserved()
    owners = Owners()
    for other in core.registry:
        if other.sandbox and other.sandbox.over:  # its end is told, and not undone yet
            other.sandbox.release()
        for port in other.state.ports if other.running and other is not container else ():
            owners.add(port, f"container {other.name}")
    for port in kept:
        owners.add(port, "this container")
    held = [port.place for port in sockets_of(container.state.ports)] if container.running else ()
    return bind_all([replace(one, address=one.address or address) for one in every], owners, held)


def _host_address(core: Core, container: Container) -> str | None:
    """Return what its network publishes on whose user named no address; None where nothing can be published.

    That is so without a network of its own, and on internal ones only.
    """
    found = []
    for name, settings in endpoints.places(container).items():
        network = endpoints.find(core.networks, name, settings)
        if network.driver == "bridge" and not network.internal:
            found.append((-settings.gw_priority, network.name, network.host_address))
    return min(found)[2] if found else None


def give(container: Container, reserved: Reserved, channel: Channel, *, running: bool) -> None:
    """Give the sockets to the shim, which holds them from then on: a few before it makes the container, else after it.

    A few fit into what its launcher hands over: the shim decodes no message then, and stays smaller.
    """
    if reserved.ports and running is (len(reserved.sockets) > _FEW):
        tell(container, channel, reserved.sockets)


def remind(container: Container) -> None:
    """Have the shim hold what the container publishes: it may not have been told yet, or something has changed."""
    if container.shim is not None and container.sandbox is not None and container.sandbox.ports:
        tell(container, container.shim)


def tell(container: Container, channel: Channel, sockets: Mapping[Place, socket.socket] | None = None) -> Pending:
    """Have the shim hold what the container publishes now: of that `sockets` are bound, the rest it has, or binds."""
    sockets = sockets or {}
    addresses, ports = container.sandbox.published if container.sandbox else ((), ())
    every = sorted(sockets_of(ports), key=lambda port: port.place in sockets)
    targets = tuple(address.partition("/")[0] for address in addresses)
    given = [sockets[port.place].fileno() for port in every if port.place in sockets]
    message = HoldPorts(targets=targets, ports=tuple(every), first=len(every) - len(given))
    while len(given) > MAX_DESCRIPTORS:
        now, given = given[:MAX_DESCRIPTORS], given[MAX_DESCRIPTORS:]
        channel.post(HoldPorts(more=True), now)
    return channel.post(message, given)
