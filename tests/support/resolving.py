"""Names in tests: a name server that says what a test wants, and clients that ask in whatever network namespace."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from sampan.kernel.link import loopback_up
from sampan.kernel.namespaces import CLONE, setns
from sampan.network import dns

T = TypeVar("T")
_SO_RCVBUFFORCE = 33  # socket(7); not in the module


class Netns:
    """A network namespace with nothing but loopback; `path` is good for a container's configuration."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
        assert self._holder.stdout
        self._holder.stdout.readline()
        self.path = f"/proc/{self._holder.pid}/ns/net"
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.inside(loopback_up)

    def inside(self, function: Callable[[], T]) -> T:
        """Call it in the namespace, in a thread of its own."""
        return inside(self._fd, function)

    def let_go(self) -> None:
        """Only those who are in it keep it from here on."""
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout
        self._holder.stdout.close()

    def inode(self) -> int:
        return os.fstat(self._fd).st_ino

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.let_go()


def inside(fd: int, function: Callable[[], T]) -> T:
    """Call `function` in the network namespace that `fd` is, in a thread of its own."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            setns(fd, CLONE.NEWNET)
            results.append(function())
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def name_server_sockets(address: str = "127.0.0.11") -> tuple[socket.socket, socket.socket]:
    """Open what a container's name server listens on, in the caller's namespace."""
    udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    udp.bind((address, 0))
    tcp.bind((address, 0))
    tcp.listen()
    return udp, tcp


# ------------------------------------------------------------------------------------------------------- clients


class Answer(NamedTuple):
    """What came back."""

    code: int
    values: list[str]  # addresses and names, sorted
    truncated: bool
    raw: bytes


def query(name: str, type: int = dns.A, *, id: int = 77, size: int = 0) -> bytes:
    """Put a query together; with a `size` of answers that is taken over UDP, EDNS."""
    tail = b"\0" + struct.pack(">HHIH", dns.OPT, size, 0, 0) if size else b""
    return struct.pack(">6H", id, 0x0100, 1, 0, 0, bool(size)) + dns.name(name) + struct.pack(">HH", type, 1) + tail


def ask(
    name: str, type: int = dns.A, *, port: int = 53, address: str = "127.0.0.11", size: int = 0, timeout_s: float = 20
) -> Answer:
    """Ask over UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        sock.connect((address, port))
        sock.send(query(name, type, size=size))
        return read(sock.recv(65535))


def ask_tcp(name: str, type: int = dns.A, *, port: int = 53, address: str = "127.0.0.11") -> Answer:
    """Ask over TCP."""
    with socket.create_connection((address, port), timeout=20) as sock:
        data = query(name, type)
        sock.sendall(len(data).to_bytes(2, "big") + data)
        return read(read_message(sock))


def read_message(sock: socket.socket) -> bytes:
    """Read one message off a stream."""
    length = int.from_bytes(_exactly(sock, 2), "big")
    return _exactly(sock, length)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def read(data: bytes) -> Answer:
    """Read an answer whose records are about the question's name."""
    _, flags, questions, answers, _, _ = struct.unpack_from(">6H", data)
    at = 12
    for _ in range(questions):
        at = _after_name(data, at) + 4
    values = []
    for _ in range(answers):
        at = _after_name(data, at)
        type, _, _, length = struct.unpack_from(">HHIH", data, at)
        value = data[at + 10 : at + 10 + length]
        at += 10 + length
        values.append(_value(type, value))
    return Answer(flags & 0xF, sorted(values), bool(flags & 0x0200), data)


def _after_name(data: bytes, at: int) -> int:
    while data[at] and data[at] < 0xC0:
        at += 1 + data[at]
    return at + (2 if data[at] else 1)


def _value(type: int, value: bytes) -> str:
    if type == dns.PTR:
        labels, at = [], 0
        while value[at]:
            labels.append(value[at + 1 : at + 1 + value[at]].decode())
            at += 1 + value[at]
        return ".".join(labels)
    return socket.inet_ntop(socket.AF_INET if len(value) == 4 else socket.AF_INET6, value)


def with_room(sock: socket.socket) -> None:
    """Let hundreds of datagrams wait for their reader: by default some 160 of the smallest do, and more are lost."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)


# ------------------------------------------------------------------------------------------------------- a server


class FakeServer:
    """A name server at `address`, port 53, in the caller's namespace: what `answers` returns is what it sends.

    `asked` are the messages that came, with "udp" or "tcp" and the port that they came from.
    """

    def __init__(self, answers: Callable[[bytes, str], list[bytes]], address: str = "127.0.0.1") -> None:
        self.asked: list[tuple[bytes, str, int]] = []
        self._answers = answers
        family = self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._udp, self._tcp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with_room(self._udp)
        self._udp.bind((address, 53))
        self._tcp.bind((address, 53))
        self._tcp.listen()
        self._threads = [threading.Thread(target=self._serve_udp), threading.Thread(target=self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def _serve_udp(self) -> None:
        while True:
            data, client = self._udp.recvfrom(65535)
            if data == b"stop":
                return
            self.asked.append((data, "udp", client[1]))
            for answer in self._answers(data, "udp"):
                self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        while True:
            sock, client = self._tcp.accept()
            with sock:
                try:
                    data = read_message(sock)
                except EOFError:
                    return
                self.asked.append((data, "tcp", client[1]))
                for answer in self._answers(data, "tcp"):
                    sock.sendall(len(answer).to_bytes(2, "big") + answer)

    def close(self) -> None:
        address = self._udp.getsockname()
        with socket.socket(self._family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"stop", address)
        socket.create_connection(self._tcp.getsockname()[:2]).close()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()


@contextmanager
def serving(answers: Callable[[bytes, str], list[bytes]], address: str = "127.0.0.1") -> Iterator[FakeServer]:
    server = FakeServer(answers, address)
    try:
        yield server
    finally:
        server.close()


def says(*addresses: str, code: int = 0) -> Callable[[bytes, str], list[bytes]]:
    """Answer every question with these addresses."""

    def answers(data: bytes, _transport: str) -> list[bytes]:
        asked = dns.read_query(data)
        assert asked
        records = [dns.record(dns.A, socket.inet_aton(a), 60) for a in addresses]
        return [dns.answer(asked, records, code=code)]

    return answers
