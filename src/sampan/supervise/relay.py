"""The relays of published ports: what arrives at a shim's socket goes on to the container, and the answers back.

The firewall sends nearly everything to the container by itself. Here arrives what it can't: ::1, and IPv6 for a
container that has no IPv6. Nothing is kept: what can't be written yet stays in the kernel's buffer of the other side.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import TYPE_CHECKING

from sampan.supervise.loop import HUP, IN, OUT

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.supervise.loop import Loop

CONNECTIONS = 1024
"""How many a container may have at a time; the next ones wait in the kernel."""

CLIENTS = 512
"""How many UDP clients are known at a time; who was silent longest is forgotten for another."""

_BUFFER = 1 << 16
_PIECES = 8
_DATAGRAMS = 32
_SILENT_S = 90
_ANCILLARY = socket.CMSG_SPACE(struct.calcsize("16sI"))
# As plain integers: see messages.py.
_PEEK = int(socket.MSG_PEEK)
_NOSIGNAL = int(socket.MSG_NOSIGNAL)
_PKTINFO = int(socket.IPV6_PKTINFO)
_ANY = bytes(4)  # whichever link the way back takes
_RESET = struct.pack("ii", 1, 0)
_buffer = bytearray()


def _view(size: int = _BUFFER) -> memoryview:
    """Return the one buffer, which is not there before something is relayed."""
    if not _buffer:
        _buffer.extend(bytes(_BUFFER))
    return memoryview(_buffer)[:size]


def _connect(kind: int, address: str, port: int) -> socket.socket:
    """Begin to connect."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        sock.connect((address, port))
    except BlockingIOError:
        pass
    except OSError:
        sock.close()
        raise
    return sock


def _tune(sock: socket.socket) -> None:
    """Notice a peer that is gone, in the end, and don't wait for more to send: whoever writes has decided that."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Connection:
    """One TCP connection and its twin to the container. `on_end` is called once."""

    __slots__ = ("_ended", "_ends", "_full", "_loop", "_on_end", "_port", "_targets")

    def __init__(
        self,
        loop: Loop,
        client: socket.socket,
        targets: tuple[str, ...],
        port: int,
        on_end: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._on_end = on_end
        self._targets = targets
        self._port = port
        self._ends = [client]  # the client's, the container's
        self._ended = [False, False]  # whose input is at its end
        self._full = [False, False]  # whose input waits for the other to take more
        client.setblocking(False)
        _tune(client)

    def begin(self) -> None:
        """Connect to the first of the container's addresses that answers; where none does the client is reset."""
        while self._targets:
            address, self._targets = self._targets[0], self._targets[1:]
            try:
                sock = _connect(socket.SOCK_STREAM, address, self._port)
            except OSError:
                continue
            self._ends.append(sock)
            self._loop.watch(sock.fileno(), OUT, self._connected)
            return
        self.close(reset=True)

    def _connected(self, events: int) -> None:
        sock = self._ends[1]
        failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not failed and not events & OUT:  # it was told of another socket, which had this number until just now
            return
        self._loop.forget(sock.fileno())
        if failed:
            sock.close()
            self._ends.pop()
            self.begin()
            return
        _tune(sock)
        self._loop.watch(self._ends[0].fileno(), IN, lambda events: self._ready(0, events))
        self._loop.watch(sock.fileno(), IN, lambda events: self._ready(1, events))

    def _ready(self, side: int, events: int) -> None:
        try:
            if events & (IN | HUP):
                self._pass_on(side)
            if events & (OUT | HUP):
                self._pass_on(1 - side)
        except OSError:
            self.close(reset=True)
            return
        if all(self._ended):
            self.close()
            return
        for number, sock in enumerate(self._ends):
            reads = IN if not (self._ended[number] or self._full[number]) else 0
            self._loop.change(sock.fileno(), reads | (OUT if self._full[1 - number] else 0))

    def _pass_on(self, source: int, pieces: int = _PIECES) -> None:
        """Move what `source` has to the other end. What that does not take is only looked at, and stays where it is."""
        if self._ended[source]:
            return
        one, other = self._ends[source], self._ends[1 - source]
        view = _view()
        self._full[source] = False
        for _ in range(pieces):
            try:
                count = one.recv_into(view, 0, _PEEK)
            except BlockingIOError:
                return
            if not count:
                self._ended[source] = True
                other.shutdown(socket.SHUT_WR)
                return
            try:
                sent = other.send(view[:count], _NOSIGNAL)
            except BlockingIOError:
                self._full[source] = True
                return
            one.recv_into(view, sent)

    def finish(self) -> None:
        """The container has ended: pass on what it has said, and close."""
        try:
            if len(self._ends) == 2:
                self._pass_on(1, 1 << 10)
        except OSError:
            pass
        self.close()

    def close(self, *, reset: bool = False) -> None:
        """Close both ends; with `reset` their peers get an error instead of an end."""
        ends, self._ends = self._ends, []
        for sock in ends:
            self._loop.forget(sock.fileno())
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.close()
        if ends:
            self._on_end(self)


class Datagrams:
    """What the clients of UDP sockets have sent, each through a socket of its own, and the answers to it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._clients: dict[
            tuple[int, tuple[Any, ...]], _Client
        ] = {}  # by socket and address; who was heard last is last
        self._looks = False

    def ready(self, sock: socket.socket, target: str, port: int) -> None:
        """Pass on to the container what has come to `sock`; nowhere while it has no address."""
        for _ in range(_DATAGRAMS):
            try:
                size, ancillary, _, address = sock.recvmsg_into((_view(),), _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about an answer
                continue
            if not target:
                continue
            try:
                client = self._client(sock, address, target, port)
                client.asked = [(level, kind, data[:16] + _ANY) for level, kind, data in ancillary if kind == _PKTINFO]
                client.sock.send(_view(size))
            except OSError:  # the container is busy, or has nobody at this port: a datagram may be lost
                continue

    def _client(self, sock: socket.socket, address: tuple[Any, ...], target: str, port: int) -> _Client:
        key = (sock.fileno(), address)
        client = self._clients.pop(key, None)
        if client is None:
            if len(self._clients) >= CLIENTS:
                self._forget(next(iter(self._clients)))
            client = _Client(_connect(socket.SOCK_DGRAM, target, port))
            self._loop.watch(client.sock.fileno(), IN, lambda _events: _answer(client, sock, address))
            self._look_later()
        self._clients[key] = client
        client.heard = time.monotonic()
        return client

    def _look_later(self) -> None:
        if not self._looks:
            self._looks = True
            self._loop.call_later(_SILENT_S, self._look)

    def _look(self) -> None:
        """Forget who has not been heard, nor answered, for a while."""
        self._looks = False
        before = time.monotonic() - _SILENT_S
        for key in [key for key, client in self._clients.items() if client.heard <= before]:
            self._forget(key)
        if self._clients:
            self._look_later()

    def _forget(self, key: tuple[int, tuple[Any, ...]]) -> None:
        client = self._clients.pop(key)
        self._loop.forget(client.sock.fileno())
        client.sock.close()

    def forget(self, sock: socket.socket | None = None) -> None:
        """Forget the clients of one socket, or all; the sockets that they send to stay the caller's."""
        for key in [key for key in self._clients if sock is None or key[0] == sock.fileno()]:
            self._forget(key)


class _Client:
    """One that has sent datagrams, since `heard` not any more; `asked` is the address that it has sent to."""

    __slots__ = ("asked", "heard", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = 0.0
        self.asked: list[tuple[int, int, bytes]] = []


def _answer(client: _Client, sock: socket.socket, address: tuple[Any, ...]) -> None:
    """Send what the container says to its client, from the address that this one has sent to."""
    for _ in range(_DATAGRAMS):
        try:
            size = client.sock.recv_into(_view())
        except BlockingIOError:
            return
        except OSError:  # ICMP: nobody listens there
            continue
        client.heard = time.monotonic()
        try:
            sock.sendmsg((_view(size),), client.asked, 0, address)
        except OSError:  # the client has gone, or takes nothing now
            continue
