"""HTTP/1.1 over a unix socket: what the command line and the Python client speak to the server.

Only `_socket` and `_json` are imported: `socket`, `json`, `http.client` or `re` would each double the start of the
command line. A connection is kept alive between requests. A body is read as it comes: whole (`read`, `json`), by
lines, by pieces, or without blocking beside other descriptors (`fileno` and `poll`).
"""

from __future__ import annotations

import _socket

from sampan.client.jsontext import dumps, loads
from sampan.errors import CLASSES, Conflict, Failed, InvalidInput, NotFound, NotPermitted, SampanError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

API_VERSION = "1.50"

_READ = 65536
_LONGEST_HEAD = 65536
_TRIES = 5
_BY_STATUS = {400: InvalidInput, 401: NotPermitted, 403: NotPermitted, 404: NotFound, 409: Conflict, 501: Unsupported}


class Unreachable(Failed):
    """Nobody listens on the socket: no server, or none any more."""


class ConnectionLost(Failed):
    """The server went away in the middle of an exchange. What was asked may or may not have been done."""


class Connection:
    """One connection to the server at a socket; opened at the first request, and again when the server closed it."""

    def __init__(self, path: str, user_agent: str = "sampan") -> None:
        self.path = path
        self._head = f"Host: sampan\r\nUser-Agent: {user_agent}\r\n"
        self._socket: _socket.socket | None = None
        self._answer: Response | None = None

    def connect(self) -> None:
        """Open the connection, if it is not open or can't carry another request.

        Raises Unreachable, or NotPermitted with what to do.
        """
        self._rest()
        if self._socket is not None:
            return
        new = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            new.connect(self.path)
        except PermissionError:
            new.close()
            raise NotPermitted(
                f"permission denied while trying to connect to the sampan socket at unix://{self.path}",
                "run it as root (sudo), or choose a directory of your own with --root or SAMPAN_ROOT",
            ) from None
        except OSError as e:
            new.close()
            raise Unreachable(f"can't connect to unix://{self.path}: {(e.strerror or str(e)).lower()}") from None
        self._socket = new

    def request(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request and read the head of its answer. A body in pieces is sent chunked as it comes.

        Answers of 400 and above are returned, not raised: see `Response.check`. What is left of the last answer is
        discarded.
        """
        self._rest()
        kept = self._socket is not None
        try:
            answer = self._exchange(method, target, body, headers or {})
        except ConnectionLost:  # the server may close a kept connection in the very moment in which we use it
            if not kept or method not in ("GET", "HEAD"):
                raise
            answer = self._exchange(method, target, body, headers or {})
        if "sampan-restarting" in answer.headers and (body is None or isinstance(body, bytes)):
            # An older server makes room for one of our version, and has done nothing yet.
            self.close()
            answer = self._exchange(method, target, body, {**(headers or {}), "Sampan-Again": "1"})
        return answer

    def _exchange(
        self, method: str, target: str, body: bytes | Iterable[bytes] | None, headers: Mapping[str, str]
    ) -> Response:
        self.connect()
        try:
            self._send(method, target, body, headers)
        except OSError as e:
            self._answer_before_close(e)
        return self._receive(method)

    def hijack(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Hijacked:
        """Send a request after whose answer the connection is a raw stream, and let go of the connection.

        Raises the error that the server answers instead.
        """
        answer = self.request(method, target, body, {**(headers or {}), "Connection": "Upgrade", "Upgrade": "tcp"})
        try:
            answer.check()
        except SampanError:
            self.close()
            raise
        taken, self._socket, self._answer = self._socket, None, None
        assert taken is not None
        return Hijacked(taken, answer.unread(), answer.headers.get("content-type", ""))

    def close(self) -> None:
        """Close the connection; a later request opens it again."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._answer = None

    def _rest(self) -> None:
        """Make sure that the connection kept from the last request can carry another."""
        if self._socket is None:
            return
        if self._answer is not None and not (self._answer.done and self._answer.keeps_alive):
            self.close()
            return
        try:  # nothing may be readable between two exchanges, except the end: the server closed meanwhile
            self._socket.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
            self.close()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _send(self, method: str, target: str, body: bytes | Iterable[bytes] | None, headers: Mapping[str, str]) -> None:
        assert self._socket is not None
        head = f"{method} {target} HTTP/1.1\r\n{self._head}"
        for name, value in headers.items():
            head += f"{name}: {value}\r\n"
        if body is None:
            if method not in ("GET", "HEAD"):
                head += "Content-Length: 0\r\n"
            self._socket.sendall((head + "\r\n").encode("latin-1", "replace"))
            return
        if "Content-Type" not in headers:
            head += "Content-Type: application/json\r\n"
        if isinstance(body, bytes):
            self._socket.sendall((head + f"Content-Length: {len(body)}\r\n\r\n").encode("latin-1", "replace") + body)
            return
        self._socket.sendall((head + "Transfer-Encoding: chunked\r\n\r\n").encode("latin-1", "replace"))
        for piece in body:
            if piece:
                self._socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        self._socket.sendall(b"0\r\n\r\n")

    def _answer_before_close(self, error: OSError) -> None:
        """A server that refuses a body answers and closes while we still send: what it said matters more."""
        assert self._socket is not None
        try:
            self._socket.settimeout(2)
            readable = self._socket.recv(1, _socket.MSG_PEEK)
            self._socket.settimeout(None)
        except OSError:
            readable = b""
        if not readable:
            self.close()
            raise ConnectionLost(
                f"lost the connection to unix://{self.path}: {(error.strerror or '').lower()}"
            ) from None

    def _receive(self, method: str) -> Response:
        assert self._socket is not None
        try:
            self._answer = Response(self._socket, self.path, bodyless=method == "HEAD")
        except SampanError:
            self.close()
            raise
        return self._answer


def ask(connect: Callable[[], Connection], send: Callable[[Connection], Response], *, harmless: bool) -> Response:
    """Send a request over a connection that `connect` gives; over another one where the server has left just then.

    What it may have done already is asked again only where that is `harmless`.
    """
    for left in reversed(range(_TRIES)):
        connection = connect()
        try:
            return send(connection)
        except BaseException as e:
            connection.close()
            # The unreachable one was sent nothing.
            if not left or not (isinstance(e, Unreachable) or (harmless and isinstance(e, ConnectionLost))):
                raise
    raise AssertionError


def _lost(path: str, error: OSError) -> ConnectionLost:
    return ConnectionLost(f"lost the connection to unix://{path}: {(error.strerror or str(error)).lower()}")


class Hijacked:
    """A raw stream after an upgrade: `socket`, the bytes of it that were `read` already, and the `content_type`."""

    def __init__(self, socket: _socket.socket, read: bytes, content_type: str) -> None:
        self.socket = socket
        self.read = read
        self.content_type = content_type

    @property
    def multiplexed(self) -> bool:
        """Whether standard output and error come in frames (8 bytes: stream, three zeros, length)."""
        return self.content_type == "application/vnd.docker.multiplexed-stream"


class Response:
    """An answer: `status`, `headers` (names in lower case), and its body, to be read once."""

    def __init__(self, socket: _socket.socket, path: str, *, bodyless: bool = False) -> None:
        self._socket = socket
        self._path = path
        self.status = 100
        self.headers: dict[str, str] = {}
        data = b""
        while self.status < 200 and self.status != 101:  # 100 Continue comes before the answer
            data = self._read_head(data)
        self._body = Body(self.status, self.headers, bodyless=bodyless)
        self._ready = bytearray(self._body.feed(data))

    @property
    def done(self) -> bool:
        """Whether the body has arrived whole and was given out."""
        return self._body.done and not self._ready

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection can carry another request after this."""
        return self._body.framed and self.headers.get("connection", "").lower() != "close"

    def fileno(self) -> int:
        """The descriptor to poll for more of the body; ask `poll` once before, something may be here already."""
        return self._socket.fileno()

    def poll(self) -> bytes | None:
        """Return what there is of the body after at most one read: b"" at its end, None if nothing has come yet."""
        if self._ready:
            data = bytes(self._ready)
            self._ready.clear()
            return data
        if self._body.done:
            return b""
        data = self._more()
        return data if data or self._body.done else None

    def pieces(self) -> Iterator[bytes]:
        """Give the body as it arrives."""
        while (piece := self.poll()) != b"":
            if piece:
                yield piece

    def lines(self) -> Iterator[bytes]:
        """Give the body's lines, without their ends, as they arrive."""
        rest = b""
        for piece in self.pieces():
            first, *others = piece.split(b"\n")
            rest += first
            for line in others:
                yield rest
                rest = line
        if rest:
            yield rest

    def read(self) -> bytes:
        """Return the whole body."""
        while not self._body.done:
            self._fill()
        data = bytes(self._ready)
        self._ready.clear()
        return data

    def json(self) -> Any:
        """Return the value of the whole body."""
        data = self.read()
        try:
            return loads(data)
        except ValueError as e:
            raise Failed(f"can't read the server's answer: {e}") from None

    def check(self) -> Response:
        """Return this answer, or raise the error that it tells (400 and above)."""
        if self.status >= 400:
            raise error_of(self.status, self.read())
        return self

    def unread(self) -> bytes:
        """What was read past the head: of the body, or of an upgraded connection."""
        data = bytes(self._ready)
        self._ready.clear()
        return data

    def _read_head(self, data: bytes) -> bytes:
        while (end := data.find(b"\r\n\r\n")) < 0:
            more = self._recv()
            if not more:
                raise ConnectionLost(f"lost the connection to unix://{self._path} before it answered")
            data += more
            if len(data) > _LONGEST_HEAD:
                raise Failed(f"can't read the answer of unix://{self._path}: its head is too long")
        lines = data[:end].decode("latin-1").split("\r\n")
        words = lines[0].split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
            raise Failed(f"can't read the answer of unix://{self._path}: it is not HTTP: {lines[0][:60]!r}")
        self.status = int(words[1])
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        return data[end + 4 :]

    def _fill(self) -> None:
        self._ready += self._more()

    def _more(self) -> bytes:
        """Return what one read brings of the body, which may be nothing."""
        data = self._recv()
        if data:
            return self._body.feed(data)
        if self._body.framed:
            raise ConnectionLost(f"lost the connection to unix://{self._path} in the middle of an answer")
        self._body.done = True
        return b""

    def _recv(self) -> bytes:
        try:
            return self._socket.recv(_READ)
        except OSError as e:
            raise _lost(self._path, e) from None


class Body:
    """Finds a body's bytes in what follows the head: by length, in chunks, or to the connection's end."""

    def __init__(self, status: int, headers: Mapping[str, str], *, bodyless: bool = False) -> None:
        length = headers.get("content-length", "")
        self.chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self.framed = True  # the end can be told without the connection's end
        self.done = False
        self._left = 0  # of the length, or of the present chunk with its line's end
        self._rest = b""  # of a chunk's size line
        self._trailer = False
        if status == 101:
            self.framed = self.chunked = False
        elif bodyless or status in (204, 304):
            self.done = True
            self.chunked = False
        elif not self.chunked and length.isdecimal():
            self._left = int(length)
            self.done = self._left == 0
        elif not self.chunked:
            self.framed = False

    def feed(self, data: bytes) -> bytes:
        """Return those bytes of the body that are in `data`; sets `done` at the end."""
        if self.chunked:
            return self._feed_chunks(data)
        if not self.framed:
            return data
        part = data[: self._left]
        self._left -= len(part)
        self.done = self._left == 0
        return part

    def _feed_chunks(self, data: bytes) -> bytes:
        if len(data) <= self._left - 2:  # in the middle of a large chunk nothing need be copied
            self._left -= len(data)
            return data
        out = []
        while data and not self.done:
            if self._left:
                out.append(data[: max(0, self._left - 2)])  # the last two are the chunk's \r\n
                taken = min(self._left, len(data))
                self._left -= taken
                data = data[taken:]
                continue
            self._rest += data
            line, end, data = self._rest.partition(b"\n")
            if not end:
                if len(self._rest) > _LONGEST_HEAD:
                    raise Failed("can't read the server's answer: a chunk's size line is too long")
                break
            self._rest = b""
            self._take_line(line.strip())
        return b"".join(out)

    def _take_line(self, line: bytes) -> None:
        if self._trailer:
            self.done = not line
            return
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise Failed(f"can't read the server's answer: no chunk size: {line[:40]!r}") from None
        self._trailer = size == 0
        self._left = size + 2 if size else 0


def error_of(status: int, body: bytes) -> SampanError:
    """Return the error that an answer of 400 and above tells."""
    try:
        told = loads(body)
        message, hint, kind = str(told["message"]), str(told.get("hint", "")), str(told.get("kind", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        message, hint, kind = body.decode(errors="replace").strip() or f"the server answered {status}", "", ""
    return CLASSES.get(kind, _BY_STATUS.get(status, Failed))(message, hint)


def query(**parameters: object) -> str:
    """Return `?name=value&…` of the parameters that are given (neither None nor False nor ""); dicts become JSON."""
    pairs = []
    for name, value in parameters.items():
        if value is None or value is False or value == "":
            continue
        items = value if isinstance(value, (list, tuple)) else (value,)
        for item in items:
            text = "1" if item is True else dumps(item) if isinstance(item, dict) else str(item)
            pairs.append(f"{name.rstrip('_')}={quote(text)}")
    return "?" + "&".join(pairs) if pairs else ""


_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def quote(text: str, safe: str = "") -> str:
    """Return `text` as it stands in a URL; `safe` are further characters to leave."""
    plain = _PLAIN | frozenset(safe.encode())
    return "".join(chr(c) if c in plain else f"%{c:02X}" for c in text.encode("utf-8", "surrogateescape"))
