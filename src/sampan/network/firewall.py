"""The firewall of one instance: sampan's own nftables table, and what it must ask of the host around it.

One table, `inet sampan-INSTANCE`, whose rules never change: networks and published ports are elements of its sets and
maps, so that every change is one transaction of elements, as long as what changes. `firewall_plan` says what is in it.

Beside the table there are three things of the host: sysctls (forwarding, `route_localnet`), at most one accept in
another's chain that drops forwarded packets, and connection tracking's UDP entries. Each is recorded and undone.
"""

# ruff: noqa: ARG002

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sampan.errors import Unsupported

if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterable, Sequence

    from sampan.spec.network import Network, PublishedPort


class HasSocket(Protocol):
    """What `redirect_names` needs of a network namespace."""

    def socket(self, family: int, type: int, proto: int = 0, /) -> _socket.socket:
        """Open a socket in it."""


class Firewall:
    """The table of one instance and what belongs to it. Every method is atomic and idempotent; any thread may call it.

    `record` is a file under RUN in which changes of the host outside the table are written before they are made. The
    firewall works in the network namespace of the process.
    """

    def __init__(self, instance: str, record: str) -> None:
        self.instance = instance
        self.record = record

    def sync(
        self, networks: Iterable[Network], published: Iterable[tuple[Sequence[str], Sequence[PublishedPort]]] = ()
    ) -> None:
        """Make or repair everything in one transaction, and remember it as what is wanted: what is not named here goes.

        `published` is (addresses of a container, its ports) of every running container. Without networks the table and
        all that was changed of the host go away.
        """
        raise Unsupported("can't change the firewall: not built")

    def add_network(self, network: Network) -> None:
        """Let a bridge network (made before or after, by its `link`) reach what it may. Others need no firewall."""
        raise Unsupported("can't change the firewall: not built")

    def remove_network(self, network: Network) -> None:
        """Take it back; its containers are gone already."""
        raise Unsupported("can't change the firewall: not built")

    def publish(self, addresses: Sequence[str], ports: Sequence[PublishedPort]) -> None:
        """Lead ports of the host to a container, all in one transaction, and flush UDP flows that began before.

        `addresses` are the container's on the network of its default route, with or without prefix; each port goes to
        the one of its host address's version, and nowhere if there is none ("::" with an IPv4-only container: the
        shim relays that). A port whose host address and number lead elsewhere already raises Conflict.
        """
        raise Unsupported("can't change the firewall: not built")

    def unpublish(self, addresses: Sequence[str], ports: Sequence[PublishedPort]) -> None:
        """Take the same back. Ports that lead elsewhere by now, or nowhere, are left alone."""
        raise Unsupported("can't change the firewall: not built")

    def redirect_names(self, namespace: HasSocket, udp_port: int, tcp_port: int) -> None:
        """In a container's namespace: lead 127.0.0.11:53 to these ports of 127.0.0.11, where names are answered."""
        raise Unsupported("can't change the firewall: not built")

    def forget_all(self) -> None:
        """Remove the table and undo every recorded change of the host."""
        raise Unsupported("can't change the firewall: not built")
