"""A way to a server that breaks off: connections are cut after so many bytes towards it."""

from __future__ import annotations

import contextlib
import socket
import threading


class CuttingProxy:
    """`cuts` are the bytes after which the next connections are cut; later ones last. `sent` counts what went on."""

    def __init__(self, target: str, *cuts: int) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._cuts = list(cuts)
        self.sent = 0
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
            server = socket.create_connection(self._target)
            self._sockets += (client, server)
            thread = threading.Thread(target=self._carry, args=(client, server))
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=_copy, args=(server, client))
        back.start()
        count = 0
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
                count += len(data)
                self.sent += len(data)
                if self._cuts and count >= self._cuts[0]:
                    self._cuts.pop(0)
                    break
        _shut(client, server)
        back.join()
        client.close()  # only now: what else comes is answered with a reset
        server.close()

    def end(self) -> None:
        _shut(self._listening, *self._sockets)
        for thread in self._threads:
            thread.join(10)
        self._listening.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _shut(source, target)


def _shut(*connections: socket.socket) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
