"""What a container's body says of ports: read, checked, and told in Docker's forms. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import msgspec

from sampan.engine.merge import joined
from sampan.errors import InvalidInput
from sampan.spec.docker import Port, PortBinding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.spec.docker import ContainerCreate
    from sampan.spec.network import PublishedPort

Bindings = dict[str, tuple[PortBinding, ...] | None]
EVERY = ("0.0.0.0", "::")
"""Every address of the host, by the version of IP."""

_PROTOCOLS = ("tcp", "udp", "sctp")
_MAX = 65535


class Wanted(msgspec.Struct, frozen=True):
    """One port to be published. `address` "" is every one of the host's; `first` 0: any number, else one of a range."""

    protocol: str
    container_port: int
    address: str
    first: int
    last: int

    @property
    def numbers(self) -> str:
        """The host's numbers, as people write them."""
        if not self.first:
            return "any"
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


def wanted(body: ContainerCreate) -> tuple[Wanted, ...]:
    """Return what a container is to publish. Raises InvalidInput where the body makes no sense."""
    host_config = body.host_config
    bindings = host_config.port_bindings or {}
    found = [wanted_of(key, binding) for key, given in bindings.items() for binding in given or ()]
    if host_config.publish_all_ports:
        published = {(one.container_port, one.protocol) for one in found}
        found += [Wanted(p, number, "", 0, 0) for number, p in exposed(body) if (number, p) not in published]
    return tuple(merged(found))


def check(given: ContainerCreate, full: ContainerCreate) -> list[str]:
    """Refuse ports that make no sense, or that a container can't have; return a warning for what is without effect.

    In Docker's words: api/types/container, validateNetMode; daemon/container.go, verifyPlatformContainerSettings.
    """
    mode = full.host_config.network_mode
    asked = wanted(full)
    if joined(mode):
        for what, there in (("port publishing", asked), ("port exposing", given.exposed_ports)):
            if there:
                raise InvalidInput(
                    f"conflicting options: {what} and the container type network mode",
                    "ports are those of the container whose network it shares",
                )
    if mode == "host" and full.host_config.port_bindings:
        return ["Published ports are discarded when using host network mode"]
    return []


def exposed(body: ContainerCreate) -> list[tuple[int, str]]:
    """Return what the image or the user says that the program listens on: (number, protocol), in order."""
    found = []
    for key in body.exposed_ports or {}:
        try:
            found.append(container_port(key))
        except InvalidInput:  # an image may say anything there
            continue
    return sorted(set(found))


def container_port(key: str) -> tuple[int, str]:
    """Read "80/tcp", or "80", which is TCP."""
    number, slash, protocol = key.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidInput(f"invalid proto: {protocol[:40]}", "a port's protocol is tcp, udp or sctp")
    return _number(number, number), protocol


def wanted_of(key: str, binding: PortBinding) -> Wanted:
    number, protocol = container_port(key)
    if not binding.host_port or binding.host_port == "0":
        return Wanted(protocol, number, _address(binding.host_ip), 0, 0)
    return Wanted(protocol, number, _address(binding.host_ip), *port_range(binding.host_port))


def port_range(text: str) -> tuple[int, int]:
    """Read "80" or "80-90"."""
    first, dash, last = text.partition("-")
    low = _number(first, text)
    high = _number(last, text) if dash else low
    if high < low:
        raise _invalid(text)
    return low, high


def _number(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= _MAX):
        raise _invalid(whole)
    return int(text)


def _invalid(text: str) -> InvalidInput:
    return InvalidInput(f'invalid port specification: "{text[:40]}"', "ports are numbers from 1 to 65535")


def _address(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError
        address = ipaddress.ip_address(text) if text else None
    except ValueError:
        raise InvalidInput(f"invalid IP address: {text[:60]}", "it is an address of this host") from None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address or "")


def merged(found: Iterable[Wanted]) -> list[Wanted]:
    """Take the same port of every IPv4 and of every IPv6 address as one: it is one socket as well."""
    result: list[Wanted] = []
    for one in found:
        other = EVERY[one.address == EVERY[0]]
        twin = msgspec.structs.replace(one, address=other)
        if one.address in EVERY and one.first and twin in result:
            result[result.index(twin)] = msgspec.structs.replace(one, address="")
        else:
            result.append(one)
    return result


# ------------------------------------------------------------------------------------------------- in Docker's forms


def port_map(body: ContainerCreate, ports: Iterable[PublishedPort]) -> Bindings:
    """Return `NetworkSettings.Ports` of a container that runs on a network: what is only exposed has None."""
    found: Bindings = {f"{number}/{protocol}": None for number, protocol in exposed(body)}
    for port in ports:
        key = f"{port.container_port}/{port.protocol}"
        binding = PortBinding(host_ip=port.host_address, host_port=str(port.host_port))
        found[key] = (*(found.get(key) or ()), binding)
    return found


def summaries(ports: Bindings) -> tuple[Port, ...]:
    """Return the same as lists of containers have it."""
    found = []
    for key, bindings in ports.items():
        number, _, protocol = key.partition("/")
        if not bindings:
            found.append(Port(private_port=int(number), type=protocol))
        for binding in bindings or ():
            public = int(binding.host_port)
            found.append(Port(ip=binding.host_ip, private_port=int(number), public_port=public, type=protocol))
    return tuple(sorted(found, key=lambda port: (port.private_port, port.type, port.public_port, port.ip)))


def in_range(value: str, ports: Iterable[tuple[int, str]], name: str) -> bool:
    """Tell whether one of `ports`, (number, protocol), is among those of a filter: "80", "80-90/udp"."""
    numbers, _, protocol = value.partition("/")
    try:
        low, high = port_range(numbers)
    except InvalidInput:
        raise InvalidInput(f"invalid filter '{name}={value}'", "it is PORT[-PORT][/PROTOCOL]") from None
    return any(low <= number <= high and kind == (protocol or "tcp") for number, kind in ports)
