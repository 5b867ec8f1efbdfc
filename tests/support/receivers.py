"""Syslog servers that keep what they get: datagrams, or streams of lines, with TLS or without."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Self


class Receiver:
    """`address` is what --log-opt syslog-address takes; `received` all bytes, one connection's behind another's."""

    def __init__(self, scheme: str, path: Path | None = None, context: ssl.SSLContext | None = None) -> None:
        self._received: list[bytearray] = []
        self.reading = threading.Event()
        self.reading.set()
        self._context = context
        self._scheme = scheme
        self._datagrams = scheme in {"udp", "unixgram"}
        self._path = path
        self._port = 0
        self._open()

    def _open(self) -> None:
        kind = socket.SOCK_DGRAM if self._datagrams else socket.SOCK_STREAM
        self._connections: list[socket.socket] = []
        self._socket = socket.socket(socket.AF_UNIX if self._path else socket.AF_INET, kind)
        if self._path:
            self._path.unlink(missing_ok=True)
            self._socket.bind(str(self._path))
            self.address = f"{self._scheme}://{self._path}"
        else:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("127.0.0.1", self._port))
            self._port = self._socket.getsockname()[1]
            self.address = f"{self._scheme}://127.0.0.1:{self._port}"
        if not self._datagrams:
            self._socket.listen()
        threading.Thread(
            target=self._read if self._datagrams else self._accept, args=(self._socket,), daemon=True
        ).start()

    @property
    def received(self) -> bytes:
        return b"".join(self._received)

    @property
    def lines(self) -> list[str]:
        """What has come as whole lines."""
        return self.received.decode().split("\n")[:-1]

    def close(self) -> None:
        """Be gone, with every connection."""
        for sock in (self._socket, *self._connections):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def open_again(self) -> None:
        """Listen at the same address."""
        self._open()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self._connections.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            if not self._context:
                self._read(sock)
                return
            try:
                secured = self._context.wrap_socket(sock, server_side=True)
            except OSError:  # a client that does not trust us
                return
            with secured:
                self._read(secured)

    def _read(self, sock: socket.socket) -> None:
        self._received.append(received := bytearray())
        while self.reading.wait():
            try:
                data = sock.recv(4096)
            except OSError:
                return
            if not data:
                return
            received += data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reading.set()
        self.close()
