"""One client's connection: requests in (parsed by h11, within limits), answers out (written by hand, one send each).

A client may be slow, hostile or gone at any moment. Reading a request and sending an answer are bounded in time and
size; whatever goes wrong with the connection itself is `ClientGone`, which ends only this connection.
"""

from __future__ import annotations

import http
import os
import socket
import struct
import time
from contextlib import contextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING, NamedTuple

import h11

from sampan.errors import InvalidInput, SampanError
from sampan.http11.body import Body, Malformed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Headers = Mapping[str, str | Sequence[str]]  # of several values each has a line of its own

LONGEST_HEAD = 65536
LONGEST_BODY = 8 << 20
"""Of a JSON body. Archives are streamed and have no limit."""

_READ = 65536
_SEND_FILE = 1 << 20
_DRAIN = 1 << 20  # of a body that nobody wanted, before the connection is given up instead
_LINGER_S = 2


class Patience(NamedTuple):
    """How long a client may take; seconds."""

    idle_s: int  # between two requests
    head_s: int  # for a request's head, from its first byte
    body_s: int  # for the next bytes of a body
    send_s: int  # to take the next bytes of an answer
    least_rate: int = 0  # bytes a second, on average over each `body_s` or `send_s`: a byte a minute is no client


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

    @property
    def length(self) -> int | None:
        """How long the body says it is; None where it comes in chunks. h11 has checked what is said."""
        if "transfer-encoding" in self.headers:
            return None
        return int(self.headers.get("content-length", "0"))


class Channel:
    """A connection with a client, for as many requests as it likes.

    `preamble` is what every answer says first: whole header lines.
    """

    def __init__(self, client: socket.socket, preamble: str, patience: Patience) -> None:
        self.client = client
        self.answered = True  # the present request's answer has begun, so an error can't be told any more
        self.idle_since: float | None = None  # it waits for a request of which nothing has come
        self.status = 0  # of the last answer
        self.sent = 0  # bytes of bodies in answers
        self._patience = patience
        self._preamble = preamble
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._request: Request | None = None
        self._body = Body(b"", 0)
        self._closing = False
        self._sending = False
        self._waits = (0, 0)
        self._wait_at_most(patience.idle_s, patience.send_s)

    def owes(self) -> bool:
        """Tell whether a request waits for its answer or the rest of it, be it that nobody has read it yet.

        Streams and hijacked connections are no answers that end.
        """
        return self._sending or not self.answered or self.pending()

    def pending(self) -> bool:
        """Tell whether bytes have come that nobody has read."""
        try:
            return bool(self.client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:  # nothing has come, or it is closed
            return False

    def end_after_this(self) -> None:
        """Take no further request on this connection."""
        self._closing = True

    def interrupt(self) -> None:
        """Break the connection from another thread: whoever waits for the client finds it gone."""
        try:
            # Not the method of a TLS socket, which would turn it into a plain one under a reader's hands.
            socket.socket.shutdown(self.client, socket.SHUT_RDWR)
        except OSError:  # it is gone already
            pass

    def close(self) -> None:
        """End the connection. Who still sends a body is given a moment to read the answer: a reset would discard it."""
        try:
            if not self._body.done and self.answered:
                self._linger()
        except OSError:
            pass
        finally:
            self.client.close()

    def _linger(self) -> None:
        socket.socket.shutdown(self.client, socket.SHUT_WR)
        end = time.monotonic() + _LINGER_S
        self._wait_at_most(1, 1)
        while time.monotonic() < end and socket.socket.recv(self.client, _READ):
            pass

    # ---------------------------------------------------------------------------------------- requests

    def next(self) -> Request | None:
        """Wait for a request; None when the client has no more. Raises InvalidInput for what is not HTTP."""
        if self._request is not None and not self._ready_for_another():
            return None
        self._request = None
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        if rest := self._body.rest:
            self._parser.receive_data(rest)
        self._body = Body(b"", 0)
        event = self._head_event()
        if not isinstance(event, h11.Request):
            return None
        self.answered = False
        request = Request(event)
        if request.length is None and "content-length" in request.headers:
            self._closing = True  # RFC 9112 §6.1: whoever is in between may have believed the other
            raise InvalidInput("bad request: it has both a length and chunks")
        self._body = Body(self._parser.trailing_data[0], request.length)
        self._request = request
        return request

    def _head_event(self) -> object:
        """Read a head: it may begin late, but it must not trickle in."""
        self._wait_at_most(self._patience.idle_s, self._patience.send_s)
        end: float | None = None
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as e:
                self.answered = False
                self._closing = True
                raise InvalidInput(f"bad request: {e}") from e
            if event is not h11.NEED_DATA:
                return event
            if end is None:
                self.idle_since = time.monotonic()
                self._receive()
                self.idle_since = None
                end = time.monotonic() + self._patience.head_s
                continue
            left = end - time.monotonic()
            if left <= 0:
                raise ClientGone
            self._wait_at_most(int(left) + 1, self._patience.send_s)
            self._receive()

    def _ready_for_another(self) -> bool:
        """Read past the rest of the last request's body."""
        if self._closing or (self._request is not None and self._request.close):
            return False
        if self._request is not None and self._request.expects_continue and not self._body.done:
            return False  # whether the body comes without the 100 is the client's choice: the framing is lost
        left = _DRAIN
        for piece in self.body_pieces():
            left -= len(piece)
            if left < 0:
                return False
        return True

    def body(self, limit: int = LONGEST_BODY) -> bytes:
        """Return the whole of the request's body."""
        pieces, size = [], 0
        for piece in self.body_pieces():
            pieces.append(bytes(piece))
            size += len(piece)
            if size > limit:
                self._closing = True
                raise TooLarge(f"can't read the request's body: it is larger than {limit} bytes")
        return b"".join(pieces)

    def body_pieces(self) -> Iterator[memoryview]:
        """Give the request's body as it arrives. Each piece is good until the next is asked for."""
        if self._request is not None and self._request.expects_continue and not self._body.done:
            self._request.expects_continue = False
            if not self.answered:
                self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._body.done:
            return
        self._wait_at_most(self._patience.body_s, self._patience.send_s)
        pace = _Pace(self._patience.body_s, self._patience.least_rate)

        def receive(buffer: memoryview) -> int:
            count = self.client.recv_into(buffer)
            pace.went(count)
            return count

        try:
            while (piece := self._body.next(receive)) is not None:
                yield piece
        except (OSError, Malformed) as e:  # also a timeout: SO_RCVTIMEO gives EAGAIN
            self._closing = True
            raise ClientGone from e

    def _receive(self) -> None:
        """Read more of a head."""
        try:
            self._parser.receive_data(self.client.recv(_READ))
        except OSError as e:
            raise ClientGone from e

    # ---------------------------------------------------------------------------------------- answers

    def reply(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: Headers | None = None,
    ) -> None:
        """Send a whole answer."""
        head = self._head(status, content_type if body else "", headers)
        if status not in (204, 304):
            head += f"Content-Length: {len(body)}\r\n"
        if self._request is not None and self._request.method == "HEAD":
            body = b""
        self._sending = self.answered = True
        self.sent += len(body)
        self._send((head + "\r\n").encode("latin-1", "replace") + body)
        self._sending = False

    def send_file(self, status: int, file: int, span: range, content_type: str, headers: Headers | None = None) -> None:
        """Answer with those bytes of an open file."""
        head = self._head(status, content_type, headers) + f"Content-Length: {len(span)}\r\n\r\n"
        self._sending = self.answered = True
        more = len(span) and self._request is not None and self._request.method != "HEAD"
        self._send(head.encode("latin-1", "replace"), socket.MSG_MORE if more else 0)
        if more:
            self._send_span(file, span)
        self._sending = False

    def _send_span(self, file: int, span: range) -> None:
        pace = _Pace(self._patience.send_s, self._patience.least_rate)
        at = span.start
        while at < span.stop:
            try:
                count = self._send_some(file, at, min(span.stop - at, _SEND_FILE))
            except OSError as e:
                self._closing = True
                raise ClientGone from e
            if count == 0:  # the file has become shorter: only breaking off tells it
                self._closing = True
                raise ClientGone
            at += count
            self.sent += count
            pace.went(count)

    def _send_some(self, file: int, offset: int, count: int) -> int:
        return os.sendfile(self.client.fileno(), file, offset, count)

    def stream(self, content_type: str, status: int = 200, headers: Headers | None = None) -> Stream:
        """Begin an answer that comes in pieces. The client may take as long as it likes over each: `logs -f | less`."""
        self.answered = True
        self._wait_at_most(self._patience.idle_s, 0)
        chunked = self._request is None or not (self._request.close and self._old())
        head = self._head(status, content_type, headers)
        head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else "\r\n"
        if not chunked:
            self._closing = True
        self._send(head.encode("latin-1", "replace"))
        return Stream(self, chunked=chunked)

    def _old(self) -> bool:
        return self._parser.their_http_version is not None and self._parser.their_http_version < b"1.1"

    def _head(self, status: int, content_type: str, headers: Headers | None) -> str:
        self.status = status
        head = f"{_status_line(status)}{self._preamble}Date: {_date()}\r\n"
        if content_type:
            head += f"Content-Type: {content_type}\r\n"
        for name, value in (headers or {}).items():
            for one in (value,) if isinstance(value, str) else value:
                head += f"{name}: {one}\r\n"
        if self._closing or self._request is None or self._request.close:
            head += "Connection: close\r\n"
        return head

    def _send(self, data: bytes, flags: int = 0) -> None:
        try:
            self.client.sendall(data, flags)
        except OSError as e:
            self._closing = True
            raise ClientGone from e

    def _wait_at_most(self, receive_s: int, send_s: int) -> None:
        """Bound waiting for the client; 0 lifts the bound. Costs nothing where it is so already."""
        if self._waits != (receive_s, send_s):
            self._waits = (receive_s, send_s)
            self._set_timeouts(receive_s, send_s)

    def _set_timeouts(self, receive_s: int, send_s: int) -> None:
        """Unlike settimeout() it costs no poll(2) per call."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", receive_s, 0))
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", send_s, 0))


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

    @contextmanager
    def direct(self, size: int) -> Iterator[int]:
        """Give the descriptor to which somebody else writes the next `size` bytes, no more and no less."""
        if self._chunked:
            self._channel._send(b"%x\r\n" % size)
        yield self._channel.client.fileno()
        if self._chunked:
            self._channel._send(b"\r\n")

    def end(self) -> None:
        """Say that this was all."""
        if self._chunked:
            self._channel._send(b"0\r\n\r\n")


class _Pace:
    """Insists on a least rate over each stretch of `seconds`."""

    def __init__(self, seconds: int, least_rate: int) -> None:
        self._seconds = seconds
        self._least = least_rate * seconds
        self._since = time.monotonic()
        self._bytes = 0

    def went(self, count: int) -> None:
        self._bytes += count
        now = time.monotonic()
        if now - self._since >= self._seconds:
            if self._bytes < self._least:
                raise ClientGone
            self._since, self._bytes = now, 0


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
