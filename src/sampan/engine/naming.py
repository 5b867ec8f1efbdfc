"""Names on networks: what the server gives the shims that answer them."""

# ruff: noqa: ARG001

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from sampan.engine.core import Core
    from sampan.engine.links import Channel
    from sampan.engine.registry import Container
    from sampan.network.namespace import Namespace
    from sampan.spec.network import Network


class Listening:
    """The sockets of a container's resolver, bound in its network namespace; the server's until `close`."""

    def __init__(self, sockets: tuple[socket.socket, ...] = ()) -> None:
        self.sockets = sockets

    def close(self) -> None:
        """Close the server's copies."""
        for each in self.sockets:
            each.close()


def listen(core: Core, container: Container, namespace: Namespace) -> Listening:
    """Open the resolver's sockets in a container's new namespace, and lead 127.0.0.11:53 to them."""
    return Listening()


def hand_over(core: Core, container: Container, listening: Listening, channel: Channel) -> None:
    """Give the sockets to the shim, which answers from then on: called once the program runs."""


def write_names(core: Core, network: Network) -> None:
    """Write which names the network's containers have now: called when one came, went, or got another name.

    Who is on it: `core.networks.endpoints(network.id)`.
    """


def forget_names(core: Core, network: Network) -> None:
    """The network is removed."""
