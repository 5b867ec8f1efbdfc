"""The published ports of a container, as sockets: how one is bound, and the file that says which a shim holds.

RUN/shims/ID/ports.json is what a shim was told last; another in the place of a killed one reads it.
"""

from __future__ import annotations

import errno
import os
import socket

import msgspec

from sampan.supervise.messages import HoldPorts, PublishedPort
from sampan.supervise.state import PORTS

_BACKLOG = 128
_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(HoldPorts).decode


def write(directory_fd: int, ports: HoldPorts) -> None:
    """Replace the file in a shim's directory."""
    fd = os.open(f"{PORTS}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    with open(fd, "wb") as file:
        file.write(_encode(ports))
    os.rename(f"{PORTS}.new", PORTS, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)


def read(directory: str) -> HoldPorts | None:
    """Return what is to be held; None where nothing is."""
    try:
        with open(f"{directory}/{PORTS}", "rb", buffering=0) as file:
            return _decode(file.readall())
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def bind(port: PublishedPort) -> socket.socket | None:
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
