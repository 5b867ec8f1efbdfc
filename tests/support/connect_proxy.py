"""An HTTP proxy that leads every CONNECT to one server, whatever name was asked for."""

from __future__ import annotations

import contextlib
import socket
import threading


class ConnectProxy:
    """`asked` has the head of each request."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.asked: list[str] = []
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            self.asked.append(head.decode())
            server = socket.create_connection(self._target)
            self._sockets += (client, server)
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            for words in ((client, server), (server, client)):
                self._threads.append(threading.Thread(target=_copy, args=words))
                self._threads[-1].start()

    def end(self) -> None:
        for connection in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for connection in (self._listening, *self._sockets):
            connection.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
