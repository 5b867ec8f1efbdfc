"""The published ports of a container, as sockets: how one is bound, and the file that says which a shim holds.

RUN/shims/ID/ports.json is written by the server and read by the shim, also by one in the place of a killed shim.
"""

from __future__ import annotations

import errno
import os
import socket

import msgspec

from sampan.supervise.state import PORTS

_BACKLOG = 128
_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


class Port(msgspec.Struct, frozen=True, array_like=True):
    """One socket. `address` "" is every address of the host, IPv4 and IPv6."""

    protocol: str
    address: str
    number: int
    container_port: int

    @property
    def place(self) -> tuple[str, str, int]:
        """Where it is bound."""
        return self.protocol, self.address, self.number


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The file's content. `targets`: the container's addresses, the one to be tried first before the other."""

    targets: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Ports).decode


def write(directory: str, ports: Ports) -> None:
    """Replace the file in a shim's directory."""
    path = f"{directory}/{PORTS}"
    with open(f"{path}.new", "wb") as file:
        file.write(_encode(ports))
    os.rename(f"{path}.new", path)


def read(directory: str) -> Ports:
    """Return what is to be held: nothing where there is no file."""
    try:
        with open(f"{directory}/{PORTS}", "rb", buffering=0) as file:
            return _decode(file.readall())
    except (FileNotFoundError, msgspec.DecodeError):
        return Ports()


def bind(port: Port) -> socket.socket | None:
    """Bind it, so that no other process can; None where this kernel has no such sockets, and so nobody can.

    TCP listens: of two sockets with SO_REUSEADDR, without which connections in TIME_WAIT would be in the way, both
    may be bound until one listens; socket(7).
    """
    kind, protocol = _KINDS[port.protocol]
    family = socket.AF_INET if "." in port.address else socket.AF_INET6
    try:
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    except OSError as e:
        if port.protocol == "sctp" and e.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return None
        raise
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if port.address else 0)
        if port.protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.bind((port.address, port.number))
        if port.protocol == "tcp":
            sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
