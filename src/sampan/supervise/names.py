"""A container's name server: in its shim, on sockets in its network namespace to which 127.0.0.11:53 is redirected.

It answers the names of the networks that the container is on, from the files that the server writes of them, and asks
other servers for the rest. It goes on when the server is gone. Nothing here blocks: what a container asks, however much
of it, leaves its log and its clients their turns.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import InvalidInput
from sampan.network import dns, names
from sampan.supervise.conversation import Conversations
from sampan.supervise.forwarding import Forwarder, HostServers
from sampan.supervise.loop import IN
from sampan.supervise.namespace import inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sampan.supervise.loop import Loop
    from sampan.supervise.messages import AnswerNames

ADDRESS = "127.0.0.11"

_AT_ONCE = 16
_TTL_S = 1  # long enough for who asks in a loop, short enough that nobody keeps a container's address that has gone
_IDLE_S = 10.0
_TYPES = {4: dns.A, 16: dns.AAAA}
_INET = int(socket.AF_INET)
_KINDS = [(_INET, int(socket.SOCK_DGRAM)), (_INET, int(socket.SOCK_STREAM))]


class Scope(NamedTuple):
    """What a container may know; the fields are those of `AnswerNames`."""

    files: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()
    servers: tuple[str, ...] = ()
    forward: bool = True
    qualified: bool = False

    @classmethod
    def of(cls, message: AnswerNames) -> Scope:
        """Take it out of a message."""
        return cls(message.files, message.links, message.servers, message.forward, message.qualified)


class NamesFile:
    """The file of one network's names, mapped into memory while it is asked for."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._map: mmap.mmap | None = None
        self._head = names.Head(b"", ())
        self.used = False

    def find(self, name: bytes) -> list[bytes] | None:
        """Return the addresses of a name: `names.find`."""
        return names.find(self._map, self._head, name) if self._is_there() and self._map else None

    def find_reverse(self, name: bytes) -> str | None:
        """Return the name of an address: `names.find_reverse`."""
        return names.find_reverse(self._map, self._head, name) if self._is_there() and self._map else None

    def _is_there(self) -> bool:
        """Map the file, unless it is the one that is mapped. It is only ever replaced, never written to."""
        self.used = True
        try:
            status = os.stat(self._path)
            seen = (status.st_ino, status.st_mtime_ns)
            if seen != self._seen:
                self._open()
                self._seen = seen
        except (OSError, ValueError):  # ValueError: it is empty
            self.close()
        return self._map is not None

    def _open(self) -> None:
        self.close()
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        self._head = names.read_head(self._map)

    def close(self) -> None:
        """Let go of the file's pages: of one that was replaced they are nobody else's."""
        if self._map:
            self._map.close()
        self._map, self._seen = None, None


class Names:
    """A container's name server, put together at the first question: until then it costs its shim nothing.

    `sockets` are its own from here on: of UDP, and the listening one of TCP. `pidfd` is the container's init.
    """

    def __init__(self, loop: Loop, scope: Scope, sockets: Sequence[int], pidfd: int) -> None:
        self._loop = loop
        self._scope = scope
        self._sockets = sockets
        self._pidfd = pidfd
        self._server: NameServer | None = None
        for fd in sockets:
            loop.watch(fd, IN, self._first)

    def _first(self, _events: int) -> None:
        for fd in self._sockets:
            self._loop.forget(fd)
        udp, tcp = (socket.socket(fileno=fd) for fd in self._sockets)
        self._server = NameServer(self._loop, self._scope, udp, tcp, self._pidfd)

    def set(self, scope: Scope) -> None:
        """Answer what the container may know from now on."""
        self._scope = scope
        if self._server:
            self._server.set(scope)

    def close(self) -> None:
        """Stop, and let go of the container's network namespace."""
        if self._server:
            self._server.close()
            return
        for fd in self._sockets:
            self._loop.forget(fd)
            os.close(fd)


class NameServer:
    """One that is asked."""

    def __init__(self, loop: Loop, scope: Scope, udp: socket.socket, tcp: socket.socket, pidfd: int) -> None:
        self._loop = loop
        self._udp = udp
        self._pidfd = pidfd
        self._host_servers = HostServers()
        self._forwarder = Forwarder(loop, self._servers, self._open_socket)
        self._files: dict[str, NamesFile] = {}
        self._resting = True
        self._conversations = Conversations(loop, tcp, self._stream_asked)
        self.set(scope)
        udp.setblocking(False)
        loop.watch(udp.fileno(), IN, self._datagrams)

    def set(self, scope: Scope) -> None:
        """Answer what the container may know from now on."""
        for path in self._files.keys() - set(scope.files):
            self._files.pop(path).close()
        self._files = {path: self._files.get(path) or NamesFile(path) for path in scope.files}
        self._links = {alias.lower().encode(): name.lower().encode() for alias, name in scope.links}
        self._scope = scope

    def close(self) -> None:
        """Stop."""
        self._loop.forget(self._udp.fileno())
        self._udp.close()
        self._conversations.close()
        self._forwarder.close()
        for file in self._files.values():
            file.close()

    # ----------------------------------------------------------------------------------------------- questions

    def _datagrams(self, _events: int) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, client = self._udp.recvfrom(dns.LARGEST_UDP)
            except OSError:
                return
            self._asked(data, lambda answer, client=client: self._send(answer, client), stream=False)  # type: ignore[misc]

    def _send(self, answer: bytes, client: tuple[str, int]) -> None:
        try:
            self._udp.sendto(answer, client)
        except OSError:  # it does not listen any more, or not fast enough
            pass

    def _stream_asked(self, data: bytes, reply: Callable[[bytes], None]) -> None:
        self._asked(data, reply, stream=True)

    def _asked(self, data: bytes, reply: Callable[[bytes], None], *, stream: bool) -> None:
        """Answer one message: from what we know, or as another server answers it."""
        try:
            query = dns.read_query(data)
        except InvalidInput:
            if refusal := dns.malformed(data):
                reply(refusal)
            return
        if query is None:
            return
        limit = dns.LARGEST_TCP if stream else query.limit
        if answer := self._own(query, limit):
            reply(answer)
        elif not (self._scope.forward or self._scope.servers):
            reply(dns.answer(query, code=dns.SERVER_FAILURE))
        else:
            self._forwarder.ask(query, data, reply, stream=stream)

    def _own(self, query: dns.Query, limit: int) -> bytes | None:
        """Return the answer that we have; None where another server has to be asked."""
        if query.opcode:
            return dns.answer(query, code=dns.NOT_IMPLEMENTED)
        if query.edns:
            return dns.answer(query, code=dns.BAD_VERSION)
        if query.type in (dns.AXFR, dns.IXFR):
            return dns.answer(query, code=dns.REFUSED)
        if query.klass != dns.IN or not query.name:
            return None
        if query.type == dns.PTR and query.name.endswith(b".arpa"):
            return self._own_reverse(query)
        addresses = self._addresses(query.name)
        if addresses is None:
            # As Docker: with ndots in resolv.conf a short name is one to which the resolver adds a domain.
            short = self._scope.qualified and b"." not in query.name and query.type in (dns.A, dns.AAAA)
            return dns.answer(query, code=dns.NAME_ERROR) if short else None
        if not addresses:
            return dns.answer(query, code=dns.NAME_ERROR)
        first = int.from_bytes(os.urandom(2), "big") % len(addresses)
        typed = ((_TYPES[len(address)], address) for address in addresses[first:] + addresses[:first])
        records = (dns.record(type, address, _TTL_S) for type, address in typed if query.type in (type, dns.ANY))
        return dns.answer(query, records, limit=limit)

    def _addresses(self, name: bytes) -> list[bytes] | None:
        name = self._links.get(name, name)
        found = [addresses for file in self._used_files() if (addresses := file.find(name)) is not None]
        return next((addresses for addresses in found if addresses), found[0] if found else None)

    def _own_reverse(self, query: dns.Query) -> bytes | None:
        found = [name for file in self._used_files() if (name := file.find_reverse(query.name)) is not None]
        if name := next(filter(None, found), ""):
            return dns.answer(query, (dns.record(dns.PTR, dns.name(name), _TTL_S),))
        return dns.answer(query, code=dns.NAME_ERROR) if found else None

    def _used_files(self) -> Iterator[NamesFile]:
        if self._resting and self._files:
            self._resting = False
            self._loop.call_later(_IDLE_S, self._rest)
        return iter(self._files.values())

    def _rest(self) -> None:
        """Let go of the files that nobody has asked for lately."""
        self._resting = True
        for file in self._files.values():
            if file.used and self._resting:
                self._resting = False
            if not file.used:
                file.close()
            file.used = False
        if not self._resting:
            self._loop.call_later(_IDLE_S, self._rest)

    # ----------------------------------------------------------------------------------------- other servers

    def _servers(self) -> Sequence[str]:
        return [s for s in self._scope.servers if s != ADDRESS] if self._scope.servers else self._host_servers()

    def _open_socket(self, family: int, type: int) -> socket.socket:
        """Make a socket to another server: to the user's own where the container is, who may have it there."""
        if self._scope.servers:
            return inside(self._pidfd, lambda: socket.socket(family, type))
        return socket.socket(family, type)


def take_sockets(fds: list[int]) -> list[int]:
    """Take the two sockets out of what came beside a message; [] where nothing came. Raises InvalidInput."""
    if fds and [_kind(fd) for fd in fds] != _KINDS:
        raise InvalidInput("answering names needs a socket of UDP and one of TCP, in this order")
    taken = fds[:]
    fds.clear()
    return taken


def _kind(fd: int) -> tuple[int, int]:
    with socket.socket(fileno=os.dup(fd)) as sock:
        return int(sock.family), int(sock.type)


def ports(sockets: Sequence[int]) -> tuple[int, int]:
    """Return what two sockets are bound to."""
    found = []
    for fd in sockets:
        with socket.socket(fileno=os.dup(fd)) as sock:
            found.append(sock.getsockname()[1])
    return found[0], found[1]


def open_again(ports: tuple[int, int], pidfd: int) -> list[int]:
    """Bind the sockets of a killed shim again; [] while that can't be."""

    def bind() -> list[int]:
        with socket.socket(_INET, socket.SOCK_DGRAM) as udp, socket.socket(_INET, socket.SOCK_STREAM) as tcp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            udp.bind((ADDRESS, ports[0]))
            tcp.bind((ADDRESS, ports[1]))
            tcp.listen()
            return [udp.detach(), tcp.detach()]

    try:
        return inside(pidfd, bind)
    except OSError as e:
        print(f"sampan: can't bind the name server's ports {ports} again: {e.strerror}", file=sys.stderr)
        return []
