"""HTTP to one registry and to where it leads: schemes, redirects, timeouts. It knows nothing of what is said.

A registry on this machine's loopback is spoken to in plain http, or in https if that is what answers there; all others
in https. Credentials go to the registry only, never along with a redirect to another host.
"""

from __future__ import annotations

import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, SSLError

from sampan.errors import Failed, InvalidInput
from sampan.image.address import is_loopback, leads_to, origin, shown
from sampan.image.connections import Connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from urllib3.response import BaseHTTPResponse

    from sampan.spec.settings import Place, Registries

    Body = bytes | Callable[[], Iterable[bytes]] | None  # pieces are asked for anew when a request is sent again

PIECE = 1 << 18
_REDIRECTS = 5
_SENT_AT_ONCE = 1 << 17  # socket timeouts are for a whole sendall(): a slow line must get it out in time
_DISCARDED = 1 << 16
_LONGEST_DISCARDED_S = 5
_LONGEST_DOCUMENT_S = 300
_REPEATED = frozenset((307, 308))  # redirects that keep method and body; RFC 9110, 15.4
_REDIRECTING = frozenset((301, 302, 303)) | _REPEATED
# What Go's, nginx's and Apache's servers say to plain http where they expect TLS.
_WANTS_TLS = (b"HTTPS server", b"HTTPS port", b"SSL-enabled server port")


class Request(NamedTuple):
    """One request. `path` begins with a slash, or is a whole address that the registry gave."""

    method: str
    path: str
    headers: Mapping[str, str] = MappingProxyType({})
    body: Body = None
    patience: float = 1  # how many times longer than usual to wait for the answer

    def __str__(self) -> str:
        return f"{self.method} {shown(self.path)}"

    def follows(self, status: int) -> bool:
        """Tell whether it may be sent again to where a redirect leads."""
        return self.method in ("GET", "HEAD") or (status in _REPEATED and not isinstance(self.body, bytes))


class Answer(NamedTuple):
    """A response whose body is still to be read, and the address that gave it, after redirects."""

    response: BaseHTTPResponse
    url: str
    transport: Transport

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    def header(self, name: str) -> str:
        """Return a header, "" where it is missing."""
        return self.response.headers.get(name, "")

    def discard(self) -> None:
        """Be done with it; the connection is used again if little is left to read, and that comes soon."""
        try:
            sum(map(len, pieces(self.response, _DISCARDED, _LONGEST_DISCARDED_S)))
        except (HTTPError, TimeoutError):
            self.response.close()
        self.response.release_conn()

    def document(self, limit: int, what: str) -> bytes:
        """Read it all. Raises InvalidInput where it is longer than `limit`, Failed where it breaks off."""
        data = bytearray()
        try:
            for piece in pieces(self.response, limit, _LONGEST_DOCUMENT_S):
                data += piece
        except TimeoutError:
            self.response.close()
            raise Failed(f"can't read {what}: it took more than {_LONGEST_DOCUMENT_S} s") from None
        except HTTPError as e:
            self.transport.check_stopped(e)
            raise Failed(f"can't read {what}: the connection broke off") from e
        self.transport.check_stopped()  # one whose length was not told looks whole then
        if len(data) > limit:
            raise InvalidInput(f"can't read {what}: it is longer than {limit} bytes")
        return bytes(data)


def pieces(response: BaseHTTPResponse, limit: int, seconds: float) -> Iterator[bytes]:
    """Read a body piece by piece, each as it comes; the connection is closed, and the end is there, once it is longer
    than `limit`. Raises TimeoutError where it takes too long: the socket's timeout is for each byte of one that drips.
    """
    end = time.monotonic() + seconds
    count = 0
    while piece := response.read1(PIECE, decode_content=False):
        yield piece
        count += len(piece)
        if count > limit:
            response.close()
            return
        if time.monotonic() > end:
            raise TimeoutError


class Transport:
    """What is said to one registry, and to where it leads. Several threads may use it."""

    def __init__(self, place: Place, registries: Registries) -> None:
        self.host = place.host
        self._connections = Connections(place, registries)
        self._schemes = self._connections.schemes()  # in the order to try; one, as soon as it is known
        self._timeout_s = registries.timeout_s
        self._stopped = threading.Event()

    @property
    def origin(self) -> str:
        """Scheme and host, as far as it is known."""
        return f"{self._schemes[0]}://{self.host}"

    def is_own(self, url: str) -> bool:
        """Tell whether an address is the registry's own: of the same scheme, host and port."""
        return origin(url) in [origin(f"{scheme}://{self.host}") for scheme in self._schemes]

    def may_be_plain(self, host: str) -> bool:
        """Tell whether secrets may go to a host in plain http."""
        return is_loopback(host) or self._connections.is_insecure(host)

    def stop(self) -> None:
        """End what waits or reads here, from any thread: it raises Failed, now or when it goes on."""
        self._stopped.set()
        self._connections.shut()

    def close(self) -> None:
        """Let go of all connections, and of the answers that were not read to their ends."""
        self._connections.close()

    def check_stopped(self, cause: BaseException | None = None) -> None:
        """Raise Failed after `stop`."""
        if self._stopped.is_set():
            raise Failed("it was stopped") from cause

    def wait(self, seconds: float) -> None:
        """Sleep, unless it is stopped."""
        self._stopped.wait(seconds)
        self.check_stopped()

    def stream(self, answer: Answer) -> Iterator[bytes]:
        """Read a long body piece by piece, each as it comes. Raises urllib3's HTTPError where it breaks off."""
        with answer.response as response:
            while piece := response.read1(PIECE, decode_content=False):
                self.check_stopped()
                yield piece
        self.check_stopped()

    def send(self, request: Request, authorization: str | None = None) -> Answer:
        """Send a request for a path, or for an address that the registry gave, and follow redirects.

        `authorization` goes to the registry only. Raises urllib3's HTTPError where the connection fails.
        """
        if not request.path.startswith("/"):
            return self._follow(request, request.path, authorization, self.is_own)
        schemes, first = self._schemes, None
        for scheme in schemes:
            try:
                answer = self._follow(request, f"{scheme}://{self.host}{request.path}", authorization, self.is_own)
            except HTTPError as e:
                first = first or e
                if not _may_speak_otherwise(e):
                    break
                continue
            if scheme == schemes[-1] or not _wants_tls(answer, request.method):
                self._schemes = (scheme,)
                return answer
        assert first is not None
        raise first

    def send_elsewhere(self, request: Request, authorization: str | None) -> Answer:
        """Send a request to another server, which the registry named, and `authorization` to that one only.

        What has a body is not redirected: there are secrets in it.
        """
        place = origin(request.path)
        return self._follow(request, request.path, authorization, lambda url: origin(url) == place)

    def _sent(self, body: Iterable[bytes]) -> Iterator[bytes]:
        for piece in body:
            view = memoryview(piece)
            for start in range(0, len(view), _SENT_AT_ONCE):
                self.check_stopped()
                yield view[start : start + _SENT_AT_ONCE]  # type: ignore[misc]  # urllib3 takes any buffer

    def _follow(self, request: Request, url: str, authorization: str | None, is_own: Callable[[str], bool]) -> Answer:
        for _ in range(_REDIRECTS):
            # Storage servers refuse a foreign Authorization header, and must not learn it.
            own = {"Authorization": authorization} if authorization and is_own(url) else {}
            body = self._sent(request.body()) if callable(request.body) else request.body
            timeout_s = self._timeout_s * request.patience
            self.check_stopped()
            try:
                response = self._connections.request(request.method, url, body, {**request.headers, **own}, timeout_s)
            except HTTPError as e:
                self.check_stopped(e)
                raise
            answer = Answer(response, url, self)
            location = answer.header("Location")
            if response.status not in _REDIRECTING or not location:
                return answer
            if not request.follows(response.status):
                answer.discard()
                raise Failed(f"can't {request}: it is redirected, with HTTP status {response.status}")
            answer.discard()
            url = leads_to(answer.url, location)
        raise Failed(f"can't {request}: too many redirects")


def _may_speak_otherwise(error: HTTPError) -> bool:
    return isinstance(error, ProtocolError | SSLError | NewConnectionError)


def _wants_tls(answer: Answer, method: str) -> bool:
    """Tell whether this is what a server says to plain http where it expects TLS; a registry's errors are JSON."""
    if answer.status != 400 or "json" in answer.header("Content-Type"):
        return False
    if method == "HEAD":  # what it says can't be read; if it does not speak TLS either, that is told
        answer.discard()
        return True
    try:
        text = answer.document(_DISCARDED, "the answer")
    except Failed:  # net/http closes with the request unread: a reset comes right behind its words
        return True
    return any(words in text for words in _WANTS_TLS)
