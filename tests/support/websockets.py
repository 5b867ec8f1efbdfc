"""A WebSocket client over a unix socket: wsproto's."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Self

from wsproto import ConnectionType, WSConnection, events
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Pong, Request, TextMessage


class WebSocket:
    """Connected to `target`; what comes is gathered in `received`, and the status of the close in `closed`."""

    def __init__(self, path: Path, target: str) -> None:
        self.received = b""
        self.kinds: set[type[Event]] = set()
        self.closed: int | None = None
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self._tell(Request(host="localhost", target=target))
        while AcceptConnection not in self.kinds:
            self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self._tell(BytesMessage(data=data))

    def ping(self) -> None:
        self._tell(Ping(payload=b"are you there"))
        while Pong not in self.kinds:
            self._read()

    def close(self) -> None:
        """Say goodbye and wait for the other end's, and for the connection's end."""
        self._tell(CloseConnection(code=1000))
        self.read_all()

    def until(self, data: bytes) -> bytes:
        """Read until this has come; return all that has."""
        while data not in self.received:
            self._read()
        return self.received

    def read_all(self) -> bytes:
        """Read to the end of the connection."""
        try:
            while True:
                self._read()
        except EOFError:
            return self.received

    def _tell(self, event: events.Event) -> None:
        self.socket.sendall(self._protocol.send(event))

    def _read(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(self.received)
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            self.kinds.add(type(event))
            match event:
                case BytesMessage(data=content):
                    self.received += bytes(content)
                case TextMessage(data=text):
                    self.received += text.encode()
                case CloseConnection(code=code):
                    self.closed = code
