"""What a launcher gives to its shim: the container that it has made, and everything that is open.

Not a message: a shim that has decoded none yet is 300 KiB smaller, and most never need to.
"""

from __future__ import annotations

import marshal
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterator, Sequence

BEGIN = b"b"
"""What the launcher says last, when the container has begun; at its end without this there is none."""

_LENGTH = struct.Struct("=I")
_ANCILLARY = socket.CMSG_SPACE(250 * 4)
_READ = 8192
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)


class Handover(NamedTuple):
    """Plain values only; the descriptors come beside it, in the order of `descriptors`."""

    id: str
    directory: str
    state: bytes  # state.json
    gated: bool
    pid: int
    start_time: int
    streams: tuple[str, ...]
    inodes: tuple[tuple[str, int], ...]
    stdin_once: bool
    own_pid_namespace: bool
    log: tuple[Any, ...]  # the fields of `messages.LogConfig`, and of its receiver
    cgroups: tuple[tuple[str, str], ...]
    listens: bool  # the first channel's server said Hello
    unread: bytes  # of the first channel: read, and not answered
    unread_fds: int
    clients: tuple[tuple[tuple[str, ...], bytes, bytes, int], ...]  # (streams, detach keys, already read, websocket)
    names: tuple[Any, ...] | None  # the fields of `names.Scope`
    ports: tuple[Any, ...] | None  # the targets, the ports, and the number of the first of which there is a socket


def give(sock: socket.socket, handover: Handover, descriptors: Sequence[int]) -> None:
    """Send it; `descriptors` stay the caller's."""
    data = marshal.dumps(tuple(handover))
    data = _LENGTH.pack(len(data)) + data
    sent = socket.send_fds(sock, [data], descriptors)
    if sent < len(data):
        sock.sendall(data[sent:])


def take(sock: _socket.socket) -> tuple[Handover, Iterator[int]] | None:
    """Wait for it; None when the launcher has ended without a container."""
    data, ancillary, _, _ = sock.recvmsg(_READ, _ANCILLARY, _CLOEXEC)
    if not data:
        return None
    (length,) = _LENGTH.unpack_from(data)
    while len(data) < _LENGTH.size + length:
        data += sock.recv(_READ)
    fds = [fd for _, _, rights in ancillary for fd in memoryview(rights).cast("i")]
    # From the launcher, which is this very program.
    return Handover(*marshal.loads(data[_LENGTH.size :])), iter(fds)  # noqa: S302


def begun(sock: _socket.socket) -> bool:
    """Wait for BEGIN, or for the launcher's end without it."""
    try:
        return sock.recv(1) == BEGIN
    except ConnectionResetError:
        return False
