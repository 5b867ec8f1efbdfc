"""A connection on which messages go one way, made again as often as it breaks, without ever waiting.

The addresses are numbers: a name was looked up when the container was started, for that takes its time.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, NamedTuple

from sampan.supervise.loop import HUP, IN, OUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.supervise.loop import Loop
    from sampan.supervise.tls import Tls

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_CONNECT_S = 10.0
_PART_S = 2.0
_READ = 4096
_BURST = 64  # messages before others have their turn


class Receiver(NamedTuple):
    """Where to: `network` is udp, tcp, tls, unix or unixgram; of the last two an address is a path and 0.

    `tls` are the fields of `tls.Settings`.
    """

    network: str
    addresses: tuple[tuple[str, int], ...]
    tls: tuple[str, str, str, str, bool] | None = None


class Link:
    """`take()` gives the next message, or None; `flowing()` is called when one has gone, or the connection has."""

    def __init__(
        self, loop: Loop, receiver: Receiver, take: Callable[[], bytes | None], flowing: Callable[[], None]
    ) -> None:
        self.connected = False
        self._loop = loop
        self._receiver = receiver
        self._take = take
        self._flowing = flowing
        self._sock: socket.socket | None = None
        self._tls: Tls | None = None
        self._message = b""  # the one that is being sent: again from its beginning on another connection
        self._wire = b""  # what is left of it, or of TLS's own
        self._waits = False  # for the socket to take more
        self._pause_s = 0.0  # before the next try
        self._tries = 0
        self._finishing = False
        self._parting = False  # all is sent, and the other end has been told that it was all

    @property
    def sending(self) -> bool:
        """Whether a message is on its way, or the other end has not said that it has them all."""
        return bool(self._message) or self._parting

    def send(self) -> None:
        """Send what there is, now or as soon as it can be."""
        if self._sock is None:
            if not self._pause_s:
                self._connect()
        elif self.connected and not self._waits:
            self._flush()

    def finish(self) -> None:
        """Close it when all is sent."""
        self._finishing = True
        if self.connected and not self._waits:
            self._flush()

    # ---------------------------------------------------------------------------------------- connecting

    def _connect(self) -> None:
        address, port = self._receiver.addresses[self._tries % len(self._receiver.addresses)]
        self._tries += 1
        network = self._receiver.network
        family = socket.AF_UNIX if network.startswith("unix") else socket.AF_INET6 if ":" in address else socket.AF_INET
        type = socket.SOCK_DGRAM if network in {"udp", "unixgram"} else socket.SOCK_STREAM
        try:
            sock = socket.socket(family, type | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError:
            self._later()
            return
        self._sock = sock
        code = sock.connect_ex(address if family == socket.AF_UNIX else (address, port))
        if code == 0:
            self._loop.watch(sock.fileno(), IN, self._ready)
            self._connection_made()
        elif code == errno.EINPROGRESS:
            self._waits = True
            self._loop.watch(sock.fileno(), IN | OUT, self._ready)
            self._loop.call_later(_CONNECT_S, lambda: self._give_up(sock))
        else:
            self._break()

    def _give_up(self, sock: socket.socket) -> None:
        if self._sock is sock and not self.connected:
            self._break()

    def _connection_made(self) -> None:
        if self._receiver.tls:
            from sampan.supervise.tls import Settings, Tls  # 3 MiB that only such a container costs

            try:
                self._tls = Tls(Settings(*self._receiver.tls))
            except OSError:  # its files have gone
                self._break()
                return
            self._handshake()
        else:
            self._begin()

    def _handshake(self) -> None:
        assert self._tls
        try:
            done = self._tls.handshake()
        except OSError:  # it refuses, or is not who it should be
            self._break()
            return
        self._flush_wire()
        if done and self._sock:
            self._begin()

    def _begin(self) -> None:
        self.connected = True
        self._pause_s = 0.0
        self._flush()

    def _break(self) -> None:
        """Drop the connection and try again soon; `flowing` is called: nobody is waited for who is not there."""
        parted = self._parting
        self._close()
        if not parted:
            self._later()
        self._flowing()

    def _close(self) -> None:
        if self._sock:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
        self._sock = self._tls = None
        self.connected = self._waits = self._parting = False
        self._wire = b""

    def _part(self) -> None:
        """Say that this was all, and wait a moment for the other end to have read it.

        Closed with something unread, such as a ticket of TLS's, a connection is reset, and what is on its way is lost.
        """
        assert self._sock
        if self._receiver.network in {"udp", "unixgram"}:
            self._close()
            return
        self._parting = True
        try:
            if self._tls:
                os.write(self._sock.fileno(), self._tls.farewell())
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:  # it has gone
            self._close()
            return
        sock = self._sock
        self._loop.call_later(_PART_S, lambda: self._close() if self._sock is sock else None)

    def _later(self) -> None:
        self._pause_s = min(max(_FIRST_PAUSE_S, self._pause_s * 2), _LONGEST_PAUSE_S)
        self._loop.call_later(self._pause_s, self._again)

    def _again(self) -> None:
        if self._sock is None:
            self._connect()

    # ------------------------------------------------------------------------------------------- sending

    def _ready(self, events: int) -> None:
        sock = self._sock
        if not sock:
            return
        if not self.connected and self._tls is None:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._break()
                return
            self._no_more_waiting()
            self._connection_made()
            return
        if events & (IN | HUP) and not self._receive(sock):
            return
        if events & OUT:
            self._no_more_waiting()
            if self.connected:
                self._flush()
            else:
                self._flush_wire()

    def _receive(self, sock: socket.socket) -> bool:
        """Take what the other end says, which is of no interest but for TLS and its end; False if that has come."""
        try:
            data = sock.recv(_READ)
        except BlockingIOError:
            return True
        except ConnectionRefusedError:
            if self._receiver.network == "udp":  # told of a datagram before: the next may find somebody
                return True
            data = b""
        except OSError:
            data = b""
        if not data and self._receiver.network != "udp":
            self._break()
            return False
        if self._tls:
            self._tls.received(data)
            if not self.connected:
                self._handshake()
            elif self._tls.ended():
                self._break()
        return self._sock is sock

    def _flush(self) -> None:
        """Send until there is no more, or the socket takes no more, or others want their turn."""
        for _ in range(_BURST):
            if not self._message:
                message = self._take()
                if message is None:
                    if self._finishing and not self._parting:
                        self._part()
                    break
                self._message = message
                if not self._encode(message):
                    return
            if not self._flush_wire():
                return
            self._message = b""
        else:
            self._wait()
        self._flowing()

    def _encode(self, message: bytes) -> bool:
        """Add a message to what is sent; False where TLS has ended, and the connection with it."""
        try:
            self._wire += self._tls.encrypted(message) if self._tls else message
        except OSError:  # the other end has said that it is wrong
            self._break()
            return False
        return True

    def _flush_wire(self) -> bool:
        """Send what is encoded; False where something is left of it."""
        assert self._sock
        if self._tls and not self.connected:
            self._wire += self._tls.outgoing()
        while self._wire:
            try:
                self._wire = self._wire[os.write(self._sock.fileno(), self._wire) :]
            except BlockingIOError:
                self._wait()
                return False
            except ConnectionRefusedError:
                if self._receiver.network != "udp":
                    self._break()
                    return False
            except OSError as e:
                if e.errno != errno.EMSGSIZE:
                    self._break()
                    return False
                self._wire = b""  # a datagram that nobody takes
        return True

    def _wait(self) -> None:
        if not self._waits and self._sock:
            self._waits = True
            self._loop.change(self._sock.fileno(), IN | OUT)

    def _no_more_waiting(self) -> None:
        if self._waits and self._sock:
            self._waits = False
            self._loop.change(self._sock.fileno(), IN)
