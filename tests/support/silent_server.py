"""A server that falls silent: it answers some requests, and takes the others without a word until the client leaves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

Says = Callable[[str], bytes]
"""From a request's first line to its answer: an empty one, or one with "silence" in it, is the last."""


def nothing(_: str) -> bytes:
    return b""


class SilentServer:
    """`asked` has the first lines of requests that it fell silent at; `deserted`: whether all their clients left."""

    def __init__(self, says: Says = nothing) -> None:
        self.asked: list[str] = []
        self._left: list[str] = []
        self._looking = threading.Event()
        self._says = says
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._run)]
        self._threads[0].start()

    def deserted(self) -> bool:
        self._looking.set()
        return sorted(self._left) == sorted(self.asked)

    def end(self) -> None:
        self._looking.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(ConnectionError):
            line = self._silent_at(client)
            if not line:
                return
            self.asked.append(line)
            try:
                self._looking.wait()
                while client.recv(1 << 20):  # an end comes behind all that was sent
                    pass
            finally:
                self._left.append(line)

    def _silent_at(self, client: socket.socket) -> str:
        """Answer requests up to one that is not answered, or not whole; "" for a client that leaves before."""
        while line := self._request(client):
            answer = self._says(line)
            client.sendall(answer)
            if not answer or b"silence" in answer:
                return line
        return ""

    def _request(self, client: socket.socket) -> str:
        """Read a head and no more: what follows in a request that is answered is nothing."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(1)
            if not data:
                return ""
            head += data
            if head[:1] == b"\x16":  # TLS: a handshake that comes to nothing
                return "TLS"
        return head.partition(b"\r\n")[0].decode()
