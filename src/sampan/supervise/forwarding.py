"""Asking other name servers what a container has asked for and we don't know.

Each question has a socket of its own, connected to the one server that is asked: the kernel gives it a random port, and
lets through only what comes from that server's. With the random id, somebody else's answer has to guess 31 bits.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from sampan.network import dns, resolvconf
from sampan.supervise.loop import HUP, IN, OUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.supervise.loop import Loop

_PENDING = 256  # each has a socket
_WAITING = 512
_PATIENCE_S = 4.0
_STEP_S = 1.5  # three of them are less than the 5 s after which resolvers ask us again
_TRIES = 3
_TICK_S = 0.25
_SILENT_S = 30.0
_READS = 8
_BEGINS = 16
_PIECE = 1 << 14
_PORT = 53
_HOST_FILE = "/etc/resolv.conf"
_STREAM, _DATAGRAM = int(socket.SOCK_STREAM), int(socket.SOCK_DGRAM)
_FLAGS = int(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
_INET, _INET6 = int(socket.AF_INET), int(socket.AF_INET6)
_FAILURES = frozenset((dns.FORM_ERROR, dns.SERVER_FAILURE, dns.NOT_IMPLEMENTED, dns.REFUSED))


class _Question:
    """One that waits for an answer."""

    __slots__ = ("data", "id", "last", "left", "out", "query", "read", "reply", "server", "sock", "stream", "until")

    def __init__(self, query: dns.Query, data: bytes, reply: Callable[[bytes], None], *, stream: bool) -> None:
        self.query = query
        self.data = data
        self.reply = reply
        self.stream = stream
        self.left: list[str] = []  # the servers to be asked still
        self.last: bytes | None = None  # an answer that says no more than that its server failed
        self.server = ""  # the one that is being asked
        self.sock: socket.socket | None = None
        self.id = 0
        self.until = 0.0
        self.out = b""
        self.read = bytearray()

    def fail(self) -> None:
        """Answer that no server has an answer: with what one of them said, if it did."""
        self.reply(self.last or dns.answer(self.query, code=dns.SERVER_FAILURE))


class HostServers:
    """The servers that the host asks, as its /etc/resolv.conf is at the moment."""

    def __init__(self) -> None:
        self._seen: tuple[int, int, int] | None = None
        self._servers: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        try:
            status = os.stat(_HOST_FILE)
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                with open(_HOST_FILE, "rb", buffering=0) as file:
                    text = file.read(1 << 16)
                self._servers = resolvconf.asked((text or b"").decode("ascii", "replace"))
                self._seen = seen
        except OSError:  # the last ones known; and as for any resolver, this machine where there is no file
            self._servers = self._servers or resolvconf.asked("")
        return self._servers


class Forwarder:
    """Asks one server after the other. `servers` returns them; `open_socket(family, type)` makes a socket to one."""

    def __init__(
        self, loop: Loop, servers: Callable[[], Sequence[str]], open_socket: Callable[[int, int], socket.socket]
    ) -> None:
        self._loop = loop
        self._servers = servers
        self._open_socket = open_socket
        self._questions: dict[_Question, None] = {}  # that a server was asked, the oldest first
        self._waiting: deque[_Question] = deque()  # for one of those to be answered
        self._silent: dict[str, float] = {}
        self._ticking = False

    def ask(self, query: dns.Query, data: bytes, reply: Callable[[bytes], None], *, stream: bool) -> None:
        """Have `reply` called once: with a server's answer, or one that says failure."""
        question = _Question(query, data, reply, stream=stream)
        if len(self._questions) < _PENDING:
            self._begin(question)
        elif len(self._waiting) < _WAITING:
            question.until = time.monotonic() + _PATIENCE_S
            self._waiting.append(question)
        else:
            question.fail()
        if self._questions and not self._ticking:
            self._ticking = True
            self._loop.call_later(_TICK_S, self._tick)

    def _begin(self, question: _Question) -> None:
        question.left = self._order()
        self._questions[question] = None
        self._next(question)

    def close(self) -> None:
        """Forget all questions."""
        for question in self._questions:
            self._close(question)
        self._questions.clear()
        self._waiting.clear()

    def _order(self) -> list[str]:
        """Return whom to ask, those last that did not answer lately."""
        servers = self._servers()
        if self._silent:
            now = time.monotonic()
            self._silent = {s: at for s, at in self._silent.items() if s in servers and now - at < _SILENT_S}
            servers = sorted(servers, key=lambda server: server in self._silent)
        return (list(servers) * _TRIES)[: max(_TRIES, len(servers))]

    def _next(self, question: _Question) -> None:
        """Ask the next server; without any left, it is over."""
        self._close(question)
        while question.left:
            question.server = question.left.pop(0)
            try:
                self._send(question)
            except OSError:
                self._close(question)
                self._drop(question)
            else:
                question.until = time.monotonic() + _STEP_S
                return
        self._finish(question)

    def _drop(self, question: _Question) -> None:
        """Don't ask this server again."""
        question.left = [server for server in question.left if server != question.server]

    def _send(self, question: _Question) -> None:
        question.id = int.from_bytes(os.urandom(2), "big")
        message = dns.forwarded(question.query, question.data, question.id)
        sock = question.sock = self._connected(question.server, _STREAM if question.stream else _DATAGRAM)
        if question.stream:
            question.out, question.read = len(message).to_bytes(2, "big") + message, bytearray()
            self._loop.watch(sock.fileno(), IN | OUT, lambda events: self._stream(question, events))
        else:
            self._loop.watch(sock.fileno(), IN, lambda _events: self._datagrams(question))
            sock.send(message)

    def _connected(self, server: str, type: int) -> socket.socket:
        host, _, zone = server.partition("%")
        family = _INET6 if ":" in host else _INET
        sock = self._open_socket(family, type | _FLAGS)
        try:
            if family == _INET:
                sock.connect((host, _PORT))
            else:
                sock.connect((host, _PORT, 0, _zone(zone)))
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            raise
        return sock

    # --------------------------------------------------------------------------------------------- answers

    def _datagrams(self, question: _Question) -> None:
        assert question.sock
        for _ in range(_READS):
            try:
                data = question.sock.recv(dns.LARGEST_UDP + 1)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there
                self._failed(question)
                return
            if dns.is_answer(data, question.id, question.query):
                self._answered(question, data)
                return

    def _stream(self, question: _Question, events: int) -> None:
        try:
            if question.out and events & OUT:
                self._write(question)
            if events & (IN | HUP):
                self._read(question)
        except BlockingIOError:
            return
        except OSError:
            self._failed(question)

    def _write(self, question: _Question) -> None:
        assert question.sock
        question.out = question.out[question.sock.send(question.out) :]
        if not question.out:
            self._loop.change(question.sock.fileno(), IN)

    def _read(self, question: _Question) -> None:
        assert question.sock
        piece = question.sock.recv(_PIECE)
        question.read += piece
        length = int.from_bytes(question.read[:2], "big")
        data = bytes(question.read[2 : 2 + length])
        if len(question.read) >= 2 + length > 2 and dns.is_answer(data, question.id, question.query):
            self._answered(question, data)
        elif not piece or len(question.read) >= 2 + length > 2:
            self._failed(question)

    def _answered(self, question: _Question, data: bytes) -> None:
        self._silent.pop(question.server, None)
        if dns.code(data) in _FAILURES:
            question.last = dns.returned(data, question.query)
            self._failed(question)
        elif len(data) > dns.LARGEST_UDP and not question.stream:
            self._finish(question, dns.truncated(question.query))
        else:
            self._finish(question, dns.returned(data, question.query))

    def _failed(self, question: _Question) -> None:
        self._drop(question)
        self._next(question)

    def _finish(self, question: _Question, data: bytes | None = None) -> None:
        self._close(question)
        self._questions.pop(question, None)
        if data:
            question.reply(data)
        else:
            question.fail()
        if self._waiting:
            self._loop.call_later(0, self._begin_waiting)

    def _begin_waiting(self) -> None:
        for _ in range(min(_BEGINS, len(self._waiting), _PENDING - len(self._questions))):
            self._begin(self._waiting.popleft())

    def _close(self, question: _Question) -> None:
        if question.sock:
            self._loop.forget(question.sock.fileno())
            question.sock.close()
            question.sock = None

    def _tick(self) -> None:
        """Go on with those whose server has had its time."""
        now = time.monotonic()
        for question in tuple(self._questions):
            if now >= question.until and question in self._questions:
                self._silent[question.server] = now
                self._next(question)
        while self._waiting and now >= self._waiting[0].until:
            self._waiting.popleft().fail()
        self._ticking = bool(self._questions or self._waiting)
        if self._ticking:
            self._loop.call_later(_TICK_S, self._tick)


def _zone(name: str) -> int:
    return socket.if_nametoindex(name) if name else 0
