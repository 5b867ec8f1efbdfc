"""A registry that counts the bytes it sends of each blob, stalls in the middle of some, and goes down."""

from __future__ import annotations

import socket
import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from support.fake_registry import FakeRegistry


class StallingRegistry(FakeRegistry):
    """`hold_at` says by a blob's digest where it stalls while that is so; `down` breaks every connection."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()  # bytes by a blob's digest
        self.starts: defaultdict[str, list[int]] = defaultdict(list)  # where requests for it began
        self.hold_at: dict[str, int] = {}
        self._ending = threading.Event()
        self.down = False
        super().__init__()

    def end(self) -> None:
        self._ending.set()
        super().end()

    def answer(self, handler: BaseHTTPRequestHandler, *more: Any) -> None:
        path = urlsplit(handler.path).path.removeprefix("/v2/")
        if self.down:
            handler.close_connection = True
        elif "/blobs/" in path and path in self.documents and handler.command == "GET":
            self.requests.append((handler.command, handler.path, None))
            try:
                self._blob(handler, path.rpartition("/")[2], self.documents[path][1])
            except ConnectionError:
                handler.close_connection = True
        else:
            super().answer(handler, *more)

    def _blob(self, handler: BaseHTTPRequestHandler, digest: str, data: bytes) -> None:
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        self.starts[digest].append(start)
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(data) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.end_headers()
        hold = self.hold_at.get(digest, 0)
        if hold and start <= hold:
            self._write(handler, digest, data[start:hold])
            while self.hold_at.get(digest) == hold and not (self.down or self._ending.wait(0.02)):
                pass
            start = hold
        if self.down or _has_left(handler):
            handler.close_connection = True
        else:
            self._write(handler, digest, data[start:])

    def _write(self, handler: BaseHTTPRequestHandler, digest: str, data: bytes) -> None:
        handler.wfile.write(data)
        self.sent[digest] += len(data)


def _has_left(handler: BaseHTTPRequestHandler) -> bool:
    try:
        return not handler.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
