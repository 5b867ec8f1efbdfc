"""One client's connection: requests in (parsed by h11, within limits), answers out (written by hand, one send each).

A client may be slow, hostile or gone at any moment. Reading a request and sending an answer are bounded in time and
size; whatever goes wrong with the connection itself is `ClientGone`, which ends only this connection.
"""

from __future__ import annotations

import http
import socket
import struct
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import h11

from sampan.errors import InvalidInput, SampanError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONGEST_HEAD = 65536
LONGEST_BODY = 8 << 20
"""Of a JSON body. Archives are streamed and have no limit."""

HEAD_TIMEOUT_S = 300
"""How long a connection may be idle, or be in the middle of a request's head."""

SEND_TIMEOUT_S = 60
"""How long a client may refuse to take a whole answer."""

_READ = 65536
_DRAIN = 1 << 20  # of a body that nobody wanted, before the connection is given up instead


class ClientGone(Exception):
    """The connection broke, timed out or was never HTTP: nobody is there to be told."""


class TooLarge(SampanError):
    """A request's body is beyond what is accepted."""

    http_status = 413


class Request:
    """What a client asked: `path` and `query` are still percent-encoded, header names are in lower case."""

    __slots__ = ("close", "expects_continue", "headers", "method", "path", "query")

    def __init__(self, event: h11.Request) -> None:
        self.method = event.method.decode("ascii")
        self.path, _, self.query = event.target.decode("latin-1").partition("?")
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        connection = self.headers.get("connection", "").lower()
        self.close = "close" in connection or event.http_version < b"1.1"
        self.expects_continue = self.headers.get("expect", "").lower() == "100-continue"


class Channel:
    """A connection with a client, for as many requests as it likes."""

    def __init__(self, client: socket.socket, identity: str) -> None:
        self.client = client
        self.answered = True  # the present request's answer has begun, so an error can't be told any more
        self._identity = identity
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._request: Request | None = None
        self._body_read = True
        self._closing = False
        self._version = ""
        self._patient = False
        _set_timeouts(client, HEAD_TIMEOUT_S, SEND_TIMEOUT_S)

    def owes(self) -> bool:
        """Tell whether a request waits for its answer, be it that nobody has read it yet."""
        if not self.answered:
            return True
        try:
            return bool(self.client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:  # nothing has come, or it is closed
            return False

    # ---------------------------------------------------------------------------------------- requests

    def next(self) -> Request | None:
        """Wait for a request; None when the client has no more. Raises InvalidInput for what is not HTTP."""
        if self._request is not None and not self._ready_for_another():
            return None
        self._body_read = True
        self._request = None
        event = self._event()
        if isinstance(event, h11.Request):
            self.answered = False
            self._request = Request(event)
            self._body_read = False
            return self._request
        return None

    def _ready_for_another(self) -> bool:
        """Read past the rest of the last request's body."""
        if self._closing or (self._request is not None and self._request.close):
            return False
        left = _DRAIN
        for piece in self.body_pieces():
            left -= len(piece)
            if left < 0:
                return False
        if self._patient:
            _set_timeouts(self.client, HEAD_TIMEOUT_S, SEND_TIMEOUT_S)
            self._patient = False
        rest, _ = self._parser.trailing_data
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        if rest:
            self._parser.receive_data(rest)
        return True

    def body(self, limit: int = LONGEST_BODY) -> bytes:
        """Return the whole of the request's body."""
        pieces, size = [], 0
        for piece in self.body_pieces():
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                self._closing = True
                raise TooLarge(f"can't read the request's body: it is larger than {limit} bytes")
        return b"".join(pieces)

    def body_pieces(self) -> Iterator[bytes]:
        """Give the request's body as it arrives."""
        if self._request is not None and self._request.expects_continue and not self._body_read:
            self._request.expects_continue = False
            if not self.answered:
                self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._body_read:
            event = self._event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._body_read = True
            else:
                raise ClientGone

    def _event(self) -> object:
        while True:
            try:
                event = self._parser.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._parser.receive_data(self._recv())
            except h11.RemoteProtocolError as e:
                self._closing = True
                if self._request is not None:
                    raise ClientGone from e
                self.answered = False
                raise InvalidInput(f"bad request: {e}") from e

    def _recv(self) -> bytes:
        try:
            return self.client.recv(_READ)
        except OSError as e:  # also a timeout: SO_RCVTIMEO gives EAGAIN
            raise ClientGone from e

    # ---------------------------------------------------------------------------------------- answers

    def for_version(self, version: str) -> None:
        """Say `version` in the answers to this request."""
        self._version = f"Api-Version: {version}\r\nDocker-Experimental: false\r\nOstype: linux\r\n{self._identity}"

    def reply(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole answer."""
        head = self._head(status, content_type if body else "", headers)
        if status not in (204, 304):
            head += f"Content-Length: {len(body)}\r\n"
        if self._request is not None and self._request.method == "HEAD":
            body = b""
        self.answered = True
        self._send((head + "\r\n").encode("latin-1", "replace") + body)

    def stream(self, content_type: str, status: int = 200) -> Stream:
        """Begin an answer that comes in pieces. The client may take as long as it likes over each: `logs -f | less`."""
        self.answered = True
        _set_timeouts(self.client, HEAD_TIMEOUT_S, 0)
        self._patient = True
        chunked = self._request is None or not (self._request.close and self._old())
        head = self._head(status, content_type, None)
        head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else "\r\n"
        if not chunked:
            self._closing = True
        self._send(head.encode("latin-1", "replace"))
        return Stream(self, chunked=chunked)

    def upgrade(self, content_type: str) -> tuple[socket.socket, bytes]:
        """Answer a hijack: the connection, and what was read of it past the request, are the caller's."""
        assert self._request is not None
        self.body()  # at most an exec's options
        upgraded = "upgrade" in self._request.headers
        self.answered = self._closing = True
        start = "HTTP/1.1 101 UPGRADED\r\n" if upgraded else "HTTP/1.1 200 OK\r\n"
        head = f"{start}Content-Type: {content_type}\r\n"
        if upgraded:
            head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        self._send(f"{head}{self._version}\r\n".encode("latin-1", "replace"))
        _set_timeouts(self.client, 0, 0)  # they would stay on the socket, whoever has it
        rest, _ = self._parser.trailing_data
        return self.client, rest

    def _old(self) -> bool:
        return self._parser.their_http_version is not None and self._parser.their_http_version < b"1.1"

    def _head(self, status: int, content_type: str, headers: Mapping[str, str] | None) -> str:
        head = f"{_status_line(status)}{self._version or self._identity}Date: {_date()}\r\n"
        if content_type:
            head += f"Content-Type: {content_type}\r\n"
        for name, value in (headers or {}).items():
            head += f"{name}: {value}\r\n"
        if self._closing or self._request is None or self._request.close:
            head += "Connection: close\r\n"
        return head

    def _send(self, data: bytes) -> None:
        try:
            self.client.sendall(data)
        except OSError as e:
            self._closing = True
            raise ClientGone from e


class Stream:
    """An answer in pieces, each sent at once."""

    def __init__(self, channel: Channel, *, chunked: bool) -> None:
        self._channel = channel
        self._chunked = chunked

    def write(self, data: bytes) -> None:
        """Send one piece. Raises ClientGone; waits as long as the client takes."""
        if not data:
            return
        self._channel._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """Say that this was all."""
        if self._chunked:
            self._channel._send(b"0\r\n\r\n")


def _set_timeouts(client: socket.socket, receive_s: int, send_s: int) -> None:
    """Bound waiting on a blocking socket; 0 lifts the bound. Unlike settimeout() it costs no poll(2) per call."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", receive_s, 0))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", send_s, 0))


_status_lines: dict[int, str] = {}


def _status_line(status: int) -> str:
    line = _status_lines.get(status)
    if line is None:
        line = _status_lines[status] = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
    return line


_today = (0, "")


def _date() -> str:
    global _today
    now = int(time.time())
    if _today[0] != now:
        _today = (now, formatdate(now, usegmt=True))
    return _today[1]
