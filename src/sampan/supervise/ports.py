"""Holding a container's published ports: no other process of the host can take them, and what comes to them goes on.

A shim holds what the server tells it to, notes it (`binding`), and lets go when its container ends.
"""

from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING

from sampan.supervise import binding
from sampan.supervise.loop import IN
from sampan.supervise.messages import HoldPorts
from sampan.supervise.relay import CONNECTIONS, Connection, Datagrams
from sampan.supervise.streams import close_all

if TYPE_CHECKING:
    from sampan.supervise.loop import Loop
    from sampan.supervise.messages import PublishedPort

_AGAIN_S = 2.0
_NO_ROOM_S = 1.0
_ACCEPTS = 16
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class _Held:
    """One port; without a socket where this kernel has none of that protocol."""

    __slots__ = ("container_port", "listens", "sock")

    def __init__(self, sock: socket.socket | None, container_port: int, *, listens: bool) -> None:
        self.sock = sock
        self.container_port = container_port
        self.listens = listens


class Given:
    """What the server gives, in one message or in several."""

    def __init__(self) -> None:
        self.ports = HoldPorts()
        self.sockets: list[int] = []

    def take(self, message: HoldPorts, fds: list[int]) -> bool:
        """Keep what has come; True when it is all."""
        self.sockets += fds
        fds.clear()
        if not message.more:
            self.ports = message
        return not message.more

    def close(self) -> None:
        """Close what nobody has taken."""
        close_all(self.sockets)
        self.sockets = []


class Published:
    """All ports of one container."""

    def __init__(self, loop: Loop, directory_fd: int) -> None:
        self._loop = loop
        self._directory_fd = directory_fd
        self._wanted: tuple[PublishedPort, ...] = ()
        self._targets: tuple[str, ...] = ()
        self._held: dict[tuple[str, str, int], _Held] = {}
        self._given = Given()
        self._connections: set[Connection] = set()
        self._datagrams = Datagrams(loop)
        self._paused = False
        self._looks_again = False

    def hold(self, message: HoldPorts, fds: list[int]) -> None:
        """Hold what the message says, when all of it has come."""
        if self._given.take(message, fds):
            given, self._given = self._given, Given()
            try:
                binding.write(self._directory_fd, given.ports)
            except OSError as e:  # only a successor would read it, and the server tells that, too
                print(f"sampan: can't note the published ports: {e.strerror}", file=sys.stderr)
            self.begin(given.ports.targets, given.ports.ports, dict(enumerate(given.sockets, given.ports.first)))

    def begin(self, targets: tuple[str, ...], ports: tuple[PublishedPort, ...], sockets: dict[int, int]) -> None:
        """Hold `ports`, and no others. `sockets` are those that are bound already, by their number."""
        if targets != self._targets:
            self._targets = targets
            self._datagrams.forget()
        self._wanted = ports
        self._look(sockets)

    def _look(self, sockets: dict[int, int]) -> None:
        """Hold what is wanted. What can't be bound is tried again, for ever."""
        places = {port.place for port in self._wanted}
        for place in [place for place in self._held if place not in places]:
            self._let_go(self._held.pop(place))
        failed = ""
        for number, port in enumerate(self._wanted):
            fd = sockets.pop(number, -1)
            try:
                self._take(port, socket.socket(fileno=fd) if fd >= 0 else None)
            except OSError as e:
                failed = f"{port.number}/{port.protocol}: {(e.strerror or str(e)).lower()}"
        close_all(sockets.values())
        if failed and not self._looks_again:
            print(f"sampan: holding the port {failed}: trying again", file=sys.stderr)
        self._looks_again = bool(failed)
        if failed:
            self._loop.call_later(_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        if self._looks_again:
            self._look({})

    def _take(self, port: PublishedPort, sock: socket.socket | None) -> None:
        held = self._held.get(port.place)
        if held:
            if sock:
                sock.close()
            if held.container_port != port.container_port and held.sock:
                self._datagrams.forget(held.sock)
            held.container_port = port.container_port
            return
        if sock and sock.getsockname()[1] != port.number:  # of a server that was killed while it gave
            sock.close()
            sock = None
        held = _Held(sock or binding.bind(port), port.container_port, listens=port.protocol == "tcp")
        if held.sock and port.protocol != "sctp":
            events = 0 if held.listens and self._paused else IN
            self._loop.watch(held.sock.fileno(), events, lambda _events: self._ready(held))
        self._held[port.place] = held

    def _let_go(self, held: _Held) -> None:
        if held.sock:
            self._datagrams.forget(held.sock)
            self._loop.forget(held.sock.fileno())
            held.sock.close()

    # -- what arrives

    def _ready(self, held: _Held) -> None:
        assert held.sock
        if held.listens:
            self._accept(held.sock, held.container_port)
        else:
            self._datagrams.ready(held.sock, next(iter(self._targets), ""), held.container_port)

    def _accept(self, listening: socket.socket, port: int) -> None:
        for _ in range(_ACCEPTS):
            if len(self._connections) >= CONNECTIONS:
                self._pause()
                return
            try:
                sock, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno in _NO_ROOM:
                    self._pause()
                    self._loop.call_later(_NO_ROOM_S, self._resume)
                    return
                continue  # the client has gone; accept(2), "Error handling"
            connection = Connection(self._loop, sock, self._targets, port, self._ended)
            self._connections.add(connection)
            connection.begin()

    def _ended(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._resume()

    def _pause(self) -> None:
        """Let new clients wait in the kernel: otherwise the loop would be told of them again and again."""
        self._paused = True
        self._listen(0)

    def _resume(self) -> None:
        if self._paused and len(self._connections) < CONNECTIONS:
            self._paused = False
            self._listen(IN)

    def _listen(self, events: int) -> None:
        for held in self._held.values():
            if held.listens and held.sock:
                self._loop.change(held.sock.fileno(), events)

    # -- the end

    def end(self) -> None:
        """The container has ended: its ports are free at once."""
        self._looks_again = False
        while self._held:
            self._let_go(self._held.popitem()[1])
        for connection in tuple(self._connections):
            connection.finish()
