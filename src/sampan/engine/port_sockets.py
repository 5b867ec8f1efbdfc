"""Binding published ports: all of them or none, and who has the one that can't be had.

A number that may be any is chosen anew at each start, as Docker does it.
"""

from __future__ import annotations

import errno
import socket
import threading
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.engine.port_bindings import EVERY
from sampan.engine.port_holders import holder
from sampan.errors import Conflict, InvalidInput, doing
from sampan.spec.decoding import convert
from sampan.spec.network import PublishedPort
from sampan.supervise.binding import bind
from sampan.supervise.messages import PublishedPort as Socket

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from sampan.engine.port_bindings import Wanted

Place = tuple[str, str, int]
"""Where a socket is bound: protocol, address ("": every one), number."""

_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"
_choosing = threading.Lock()
_last: dict[str, int] = {}  # the number that was chosen last, by protocol


class Reserved:
    """What was bound: `ports` with their final numbers, and the sockets, the server's until `close`.

    Places in `held` are bound already, by the container's own shim.
    """

    def __init__(self, held: Collection[Place] = ()) -> None:
        self.ports: tuple[PublishedPort, ...] = ()
        self.sockets: dict[Place, socket.socket] = {}
        self._held = held

    def take(self, one: Wanted, addresses: Sequence[str], number: int) -> list[PublishedPort]:
        """Bind one port; raise OSError where that can't be."""
        port = Socket(one.protocol, one.address, number, one.container_port)
        sock = None if port.place in self._held else bind(port)
        if sock:
            self.sockets[port.place] = sock
        document = {"protocol": one.protocol, "host_port": number, "container_port": one.container_port}
        taken = [convert({**document, "host_address": address}, PublishedPort) for address in addresses]
        self.ports += tuple(taken)
        return taken

    def close(self) -> None:
        """Close the server's copies."""
        for each in self.sockets.values():
            each.close()
        self.sockets.clear()


class Owners:
    """Which containers publish which numbers."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], list[tuple[str, str]]] = {}

    def add(self, port: PublishedPort, name: str) -> None:
        """Take note of one."""
        self._names.setdefault((port.protocol, port.host_port), []).append((port.host_address, name))

    def of(self, protocol: str, addresses: Sequence[str], number: int) -> str:
        """Return who publishes that number on one of these addresses, or on all of its version; "" for nobody."""
        for other, name in self._names.get((protocol, number), ()):
            for address in addresses:
                if address == other or ((":" in address) == (":" in other) and {address, other} & set(EVERY)):
                    return name
        return ""


def bind_all(every: Sequence[Wanted], owners: Owners, held: Collection[Place] = ()) -> Reserved:
    """Bind `every` port, those with numbers of their own first, or none."""
    reserved = Reserved(held)
    everywhere = "" if _has_ipv6() else EVERY[0]
    try:
        for one in sorted(every, key=lambda one: (not one.first, one.last - one.first, one.container_port)):
            _bind(reserved, replace(one, address=one.address or everywhere), owners)
    except BaseException:
        reserved.close()
        raise
    reserved.ports = tuple(sorted(reserved.ports, key=lambda port: (port.container_port, port.protocol)))
    return reserved


def _bind(reserved: Reserved, one: Wanted, owners: Owners) -> None:
    """Bind the first number that is free. Raises Conflict with who has it."""
    addresses = (one.address,) if one.address else EVERY
    refusal: Conflict | None = None
    for number in _numbers(one):
        if owner := owners.of(one.protocol, addresses, number):
            text = f"Bind for {_at(addresses[0])}:{number} failed: port is already allocated: {owner} publishes it"
            refusal = Conflict(text, "stop that container, or publish another port")
            continue
        try:
            taken = reserved.take(one, addresses, number)
        except OSError as e:
            refusal = _refusal(e, one, addresses[0], number)
            continue
        for port in taken:
            owners.add(port, "this container")
        return
    if refusal is None or one.first != one.last or not one.first:
        raise Conflict(f"Bind for {_at(addresses[0])}:{one.numbers} failed: all ports are allocated")
    raise refusal


def _refusal(error: OSError, one: Wanted, address: str, number: int) -> Conflict:
    """Return a conflict for a port that is in use; raise what else is wrong."""
    what = f"failed to bind host port {_at(address)}:{number}/{one.protocol}"
    if error.errno == errno.EADDRNOTAVAIL:
        raise InvalidInput(f"{what}: cannot assign requested address", "`ip address` lists those that this host has")
    if error.errno != errno.EADDRINUSE:
        with doing(what):
            raise error
    who = holder(one.protocol, number) if one.first and one.first == one.last else ""
    cause = f"{what}: address already in use" + (f" by {who}" if who else "")
    return Conflict(cause, "end that process, or publish another port")


def _numbers(one: Wanted) -> Iterator[int]:
    """Yield what a port may be. Without a wish each number is chosen once before any is again: Docker's order."""
    if one.first:
        yield from range(one.first, one.last + 1)
        return
    first, last = _local_range()
    for _ in range(first, last + 1):
        with _choosing:
            number = _last.get(one.protocol, first - 1) + 1
            _last[one.protocol] = number = number if first <= number <= last else first
        yield number


def _local_range() -> tuple[int, int]:
    with doing("can't choose a port"), open(_RANGE) as file:
        first, last = file.read().split()
    return int(first), int(last)


def _has_ipv6() -> bool:
    """Tell whether this host's processes can listen on IPv6 at all."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _at(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def sockets_of(ports: Iterable[PublishedPort]) -> list[Socket]:
    """Return the sockets: one for both versions of IP where a port is published on every address."""
    found = {}
    for port in ports:
        place = (port.protocol, port.host_address, port.host_port)
        found[place] = Socket(*place, port.container_port)
    for protocol, _, number in [place for place in found if place[1] == EVERY[0]]:
        four, six = (protocol, EVERY[0], number), (protocol, EVERY[1], number)
        if six in found and found[four].container_port == found[six].container_port:
            found[protocol, "", number] = Socket(protocol, "", number, found.pop(four).container_port)
            del found[six]
    return list(found.values())
