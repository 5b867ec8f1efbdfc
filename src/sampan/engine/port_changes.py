"""What an update of published ports makes of a container's body. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from sampan.engine.port_bindings import EVERY, Wanted, exposed, merged, port_range, wanted_of
from sampan.errors import InvalidInput, NotFound
from sampan.spec.decoding import convert
from sampan.spec.docker import ContainerCreate, PortBinding
from sampan.spec.network import PublishedPort

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.spec.docker import PortsUpdate, PublishedRange


class Change(msgspec.Struct, frozen=True):
    """The body from now on, which of the published ports go, and what is to be published beside those that stay."""

    body: ContainerCreate
    gone: tuple[PublishedPort, ...]
    added: tuple[Wanted, ...]


def change(body: ContainerCreate, ports: Sequence[PublishedPort], update: PortsUpdate) -> Change:
    """Return what becomes of a container of which `ports` are published now: none where it does not run.

    Raises NotFound for what is to go and is not published.
    """
    asked = _Asked(body)
    gone: list[PublishedPort] = []
    for one in update.remove:
        found = [port for port in ports or asked.fixed() if _is_in(port, one) and port not in gone]
        if not found:
            hint = "`sampan port` lists what is; --publish-rm takes the host's port, as in 8080 of 8080:80"
            raise NotFound(f"{_text(one)} is not published", hint)
        asked.drop(found, ports)
        gone += found
    left = [port for port in ports if port not in gone]
    added = [wanted_of(key, binding) for key, given in update.add.items() for binding in given or ()]
    return Change(asked.body(left, added), tuple(gone) if ports else (), tuple(merged(added)))


class _Asked:
    """The ports that a body asks for, while they are changed."""

    def __init__(self, body: ContainerCreate) -> None:
        self._body = body
        self._all = body.host_config.publish_all_ports
        self._bindings = {key: list(given or ()) for key, given in (body.host_config.port_bindings or {}).items()}

    def fixed(self) -> list[PublishedPort]:
        """Return those whose number is known before a start."""
        every = [wanted_of(key, binding) for key, given in self._bindings.items() for binding in given]
        return [_port(one, one.address, one.first) for one in every if one.first]

    def drop(self, found: Iterable[PublishedPort], ports: Sequence[PublishedPort]) -> None:
        """Ask for these no longer."""
        dropped = set()
        for port in found:
            key, place = f"{port.container_port}/{port.protocol}", (port.protocol, port.host_port)
            given = self._bindings.get(key, [])
            binding = next((one for one in given if _leads_to(wanted_of(key, one), port)), None)
            if binding is not None:
                self._check_whole(wanted_of(key, binding), port, found, ports)
                given.remove(binding)
            elif place not in dropped:  # of -P
                self._all = False
            dropped.add(place)

    @staticmethod
    def _check_whole(
        one: Wanted, port: PublishedPort, found: Iterable[PublishedPort], ports: Sequence[PublishedPort]
    ) -> None:
        twin = replace(port, host_address=EVERY[port.host_address == EVERY[0]])
        if not one.address and port.host_address in EVERY and twin in ports and twin not in found:
            raise InvalidInput(f"{port.host_port}/{port.protocol} is published on every address: leave the address out")

    def body(self, left: Iterable[PublishedPort], added: Iterable[Wanted]) -> ContainerCreate:
        """Return the body. A -P of which something has gone becomes one request for each that is `left`."""
        bindings = {key: given for key, given in self._bindings.items() if given}
        if self._body.host_config.publish_all_ports and not self._all:
            stays = {(port.container_port, port.protocol) for port in left}
            for number, protocol in exposed(self._body):
                if (number, protocol) in stays:
                    bindings.setdefault(f"{number}/{protocol}", [PortBinding()])
        exposes = dict(self._body.exposed_ports or {})
        for one in added:
            key = f"{one.container_port}/{one.protocol}"
            host_port = one.numbers if one.first else ""
            bindings.setdefault(key, []).append(PortBinding(host_ip=one.address, host_port=host_port))
            exposes.setdefault(key, {})
        host_config = replace(
            self._body.host_config,
            port_bindings={key: tuple(given) for key, given in bindings.items()} or None,
            publish_all_ports=self._all,
        )
        return replace(self._body, host_config=host_config, exposed_ports=exposes or None)


def _port(one: Wanted, address: str, number: int) -> PublishedPort:
    document = {"protocol": one.protocol, "host_port": number, "container_port": one.container_port}
    return convert({**document, "host_address": address}, PublishedPort)


def _leads_to(one: Wanted, port: PublishedPort) -> bool:
    """Tell whether a port may have come of what was asked for."""
    return one.address in ("", port.host_address) and (not one.first or one.first <= port.host_port <= one.last)


def _is_in(port: PublishedPort, one: PublishedRange) -> bool:
    low, high = port_range(one.host_port)
    return port.protocol == one.type and low <= port.host_port <= high and one.host_ip in ("", port.host_address)


def _text(one: PublishedRange) -> str:
    address = f"[{one.host_ip}]:" if ":" in one.host_ip else f"{one.host_ip}:" if one.host_ip else ""
    return f"{address}{one.host_port}/{one.type}"
