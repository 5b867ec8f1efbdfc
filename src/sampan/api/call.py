"""One API call as a handler sees it: the engine, the client's parameters by type, and the ways to answer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qs

import msgspec

from sampan.api import websocket
from sampan.api.peer import sender
from sampan.api.versions import present
from sampan.errors import InvalidInput
from sampan.spec import docker
from sampan.spec.decoding import decode_json
from sampan.spec.distribution import Platform
from sampan.spec.pulling import Retries

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from sampan.api.hangups import Hangups
    from sampan.api.http import ApiChannel
    from sampan.api.versions import Version
    from sampan.engine.engine import Engine
    from sampan.engine.moving import Moving
    from sampan.http11.channel import Channel, Request, Stream
    from sampan.spec.ending import Sender

B = TypeVar("B", bound=msgspec.Struct)

JSON = "application/json"
RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"

_NO = frozenset(("", "0", "no", "false", "none"))  # anything else is yes: moby, httputils.BoolValue
_encoder = msgspec.json.Encoder()


class Serving(NamedTuple):
    """What all calls share."""

    engine: Engine
    hangups: Hangups


class Call:
    """A request that found its route. `path` holds the route's variables."""

    __slots__ = ("_channel", "_query", "_request", "engine", "hangups", "path", "version")

    def __init__(
        self, channel: ApiChannel, request: Request, *, server: Serving, version: Version, path: dict[str, str]
    ) -> None:
        self.engine = server.engine
        self.hangups = server.hangups
        self.version = version
        self.path = path
        self._channel = channel
        self._request = request
        self._query = _parse_query(request.query) if request.query else {}

    @property
    def what(self) -> str:
        """Name the call in a message."""
        return f"{self._request.method} {self._request.path[:200]}"

    # ---------------------------------------------------------------------------------------- what was asked

    def text(self, name: str, default: str = "") -> str:
        """Return a query parameter; its first value counts."""
        return self._query.get(name, (default,))[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return all values of a query parameter."""
        return tuple(self._query.get(name, ()))

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a yes or no as Docker reads it."""
        return self.text(name).strip().lower() not in _NO if name in self._query else default

    def integer(self, name: str) -> int | None:
        """Return a number, None where it is not given. Raises InvalidInput."""
        text = self.text(name)
        if not text:
            return None
        try:
            number = int(text)
        except ValueError:
            number = 1 << 63
        if not -(1 << 63) <= number < 1 << 63:
            raise InvalidInput(f"invalid value {text[:100]!r} of the parameter {name}: it must be a whole number")
        return number

    def nanoseconds(self, name: str) -> int | None:
        """Return a time given as seconds since 1970, with up to nine decimals. Raises InvalidInput."""
        text = self.text(name)
        seconds, _, fraction = text.partition(".")
        if not text:
            return None
        if not seconds.removeprefix("-").isdecimal() or (fraction and not fraction.isdecimal()) or len(seconds) > 12:
            raise InvalidInput(f"invalid value {text[:100]!r} of the parameter {name}: it must be seconds since 1970")
        return int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))

    def filters(self) -> docker.Filters:
        """Return the `filters` parameter, in either of its JSON forms: lists, or maps of true (before 1.22)."""
        text = self.text("filters")
        if not text:
            return {}
        try:
            given = decode_json(text, dict[str, list[str] | dict[str, bool] | None])
        except (msgspec.DecodeError, RecursionError) as e:
            raise InvalidInput(f"invalid filter: {e}") from e
        return {
            name: tuple(v for v, on in values.items() if on) if isinstance(values, dict) else tuple(values or ())
            for name, values in given.items()
        }

    def platform(self, name: str = "platform") -> str | None:
        """Return a parameter that is os/architecture[/variant], or since 1.48 OCI's JSON of it."""
        text = self.text(name)
        if not text.startswith("{"):
            return text or None
        try:
            return str(decode_json(text, Platform))
        except msgspec.DecodeError as e:
            raise InvalidInput(f"invalid platform: {e}") from e

    def header(self, name: str) -> str:
        """Return a header by its name in lower case."""
        return self._request.headers.get(name, "")

    def body(self, type: type[B]) -> B:
        """Read the request's JSON body; an absent one, or null, is an empty object. Raises InvalidInput."""
        data = self._channel.body()
        content_type = self.header("content-type")
        if (data or content_type) and content_type.partition(";")[0].strip().lower() != JSON:
            raise InvalidInput(f"unsupported Content-Type header ({content_type[:100]}): must be '{JSON}'")
        return docker.decode(type, data) if data and data.strip() != b"null" else type()

    def sender(self, verb: str) -> Sender:
        """Return who has a signal sent by this call."""
        return sender(self._channel.client, verb)

    def archive(self) -> BodyReader:
        """Return the request's body as a stream to read from."""
        return BodyReader(self._channel)

    # ---------------------------------------------------------------------------------------- answers

    def answer(self, value: Any, status: int = 200) -> None:
        """Answer a struct, or a list of them, in the form of the client's version."""
        self._channel.reply(status, _encoder.encode(present(value, self.version)) + b"\n")

    def answer_text(self, text: str, headers: dict[str, str] | None = None) -> None:
        """Answer plain text."""
        self._channel.reply(200, text.encode(), "text/plain; charset=utf-8", headers)

    def answer_bytes(self, data: bytes, content_type: str) -> None:
        """Answer a document as it is."""
        self._channel.reply(200, data, content_type)

    def done(self, status: int = 204, headers: dict[str, str] | None = None) -> None:
        """Answer that it is done, without a body."""
        self._channel.reply(status, headers=headers)

    def stream(self, content_type: str, headers: dict[str, str] | None = None) -> Stream:
        """Begin an answer in pieces; its head is sent at once."""
        return self._channel.stream(content_type, headers=headers)

    def lines(self, content_type: str = JSON) -> Lines:
        """Begin, at its first line, an answer of one JSON object a line."""
        return Lines(self, content_type)

    def hijack(self, session: Any) -> None:
        """Answer, then hand the connection to an attach or exec session of the engine."""
        multiplexed = not session.tty and self.version >= (1, 42)
        self._hand_over(session, lambda: self._channel.upgrade(MULTIPLEXED if multiplexed else RAW))

    def hijack_websocket(self, session: Any) -> None:
        """Do the same with a WebSocket. Raises InvalidInput for a request that is not its handshake."""
        headers = self._request.headers
        websocket.check(headers)
        self._hand_over(session, lambda: self._channel.give_away(websocket.answer(headers)))

    def _hand_over(self, session: Any, upgrade: Callable[[], tuple[socket.socket, bytes]]) -> None:
        self._channel.body()  # before its container is locked: an attach's may never come
        with session.answering():
            try:
                client, already_read = upgrade()
            except BaseException:
                session.abandon()
                raise
            session.hand_over(client.fileno(), already_read)

    def if_client_leaves(self, then: Callable[[], object]) -> AbstractContextManager[None]:
        """While the `with` lasts, call `then` (from another thread) when the client hangs up."""
        return self.hangups.watch(self._channel.client, then)

    def retries(self) -> Retries:
        """Return how often a registry is to be asked: parameters of ours, of every verb that asks one."""
        return Retries(count=self.integer("retry"), delay_ns=self.integer("retryDelay"))

    @contextmanager
    def moving(self) -> Iterator[Moving]:
        """Give the verbs that move images. Those that wait for a registry end early if the client hangs up."""
        with self.engine.moving(self.retries()) as moving, self.if_client_leaves(moving.stop):
            yield moving


def _parse_query(text: str) -> dict[str, list[str]]:
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=1000)
    except ValueError as e:
        raise InvalidInput("too many parameters in the query") from e


class Lines:
    """One JSON object a line, each sent at once: progress and events."""

    def __init__(self, call: Call, content_type: str) -> None:
        self._call = call
        self._content_type = content_type
        self._stream: Stream | None = None

    @property
    def begun(self) -> bool:
        """Whether anything was sent: an error must go into the stream then."""
        return self._stream is not None

    def begin(self) -> Stream:
        """Send the head now."""
        if self._stream is None:
            self._stream = self._call.stream(self._content_type)
        return self._stream

    def write(self, value: Any) -> None:
        """Send one line."""
        self.begin().write(_encoder.encode(value) + b"\r\n")

    def end(self) -> None:
        """Say that this was all, even of nothing."""
        self.begin().end()


class BodyReader:
    """A request's body as a file to read from, for archives of any size."""

    def __init__(self, channel: Channel) -> None:
        self._pieces = channel.body_pieces()
        self._piece = memoryview(b"")
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, fewer only at the end; all of them for -1."""
        parts: list[bytes] = []
        left = size if size >= 0 else 1 << 62
        while left:
            if self._at >= len(self._piece):
                self._piece, self._at = next(self._pieces, memoryview(b"")), 0
                if not self._piece:
                    break
            part = self._piece[self._at : self._at + left]
            parts.append(bytes(part))  # it is good only until the next piece
            self._at += len(part)
            left -= len(part)
        return b"".join(parts)
