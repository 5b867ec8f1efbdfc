"""HTTP to one registry and to where it leads: schemes, redirects, timeouts. It knows nothing of what is said.

A registry on this machine's loopback is spoken to in plain http, or in https if that is what answers there; all others
in https. Credentials go to the registry only, never along with a redirect to another host.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError, ProtocolError, SSLError

from sampan import __version__
from sampan.errors import Failed, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from urllib3.response import BaseHTTPResponse

    from sampan.spec.settings import Registries

    Body = bytes | Callable[[], Iterable[bytes]] | None  # pieces are asked for anew when a request is sent again

PIECE = 1 << 18
_REDIRECTS = 5
_CONNECT_S = 15
_SENT_AT_ONCE = 1 << 17  # socket timeouts are for a whole sendall(): a slow line must get it out in time
_DISCARDED = 1 << 16
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
        return f"{self.method} {self.path[:200]}"

    def follows(self, status: int) -> bool:
        """Tell whether it may be sent again to where a redirect leads."""
        return self.method in ("GET", "HEAD") or (status in _REPEATED and not isinstance(self.body, bytes))


class Answer(NamedTuple):
    """A response whose body is still to be read, and the address that gave it, after redirects."""

    response: BaseHTTPResponse
    url: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    def header(self, name: str) -> str:
        """Return a header, "" where it is missing."""
        return self.response.headers.get(name, "")

    def discard(self) -> None:
        """Be done with it; the connection is used again if little is left to read."""
        try:
            sum(map(len, pieces(self.response, _DISCARDED)))
        except HTTPError:
            self.response.close()
        self.response.release_conn()

    def document(self, limit: int, what: str) -> bytes:
        """Read it all. Raises InvalidInput where it is longer than `limit`, Failed where it breaks off."""
        end = time.monotonic() + _LONGEST_DOCUMENT_S
        data = bytearray()
        try:
            for piece in pieces(self.response, limit):
                data += piece
                if time.monotonic() > end:
                    self.response.close()
                    raise Failed(f"can't read {what}: it took more than {_LONGEST_DOCUMENT_S} s")
        except HTTPError as e:
            raise Failed(f"can't read {what}: the connection broke off") from e
        if len(data) > limit:
            raise InvalidInput(f"can't read {what}: it is longer than {limit} bytes")
        return bytes(data)


def pieces(response: BaseHTTPResponse, limit: int) -> Iterator[bytes]:
    """Read a body piece by piece; the connection is closed, and the end is there, once it is longer than `limit`."""
    count = 0
    for piece in response.stream(PIECE, decode_content=False):
        yield piece
        count += len(piece)
        if count > limit:
            response.close()
            return


class Transport:
    """Connections to one host, `HOST[:PORT]`. Several threads may use it."""

    def __init__(self, host: str, registries: Registries) -> None:
        self.host = host
        # In the order to try; one, as soon as it is known.
        self._schemes: tuple[str, ...] = ("http", "https") if is_loopback(host) else ("https",)
        self._timeout_s = registries.timeout_s
        self._stopped = threading.Event()
        self._reading: set[BaseHTTPResponse] = set()
        self._http = urllib3.PoolManager(retries=False, maxsize=8, headers={"User-Agent": f"sampan/{__version__}"})

    @property
    def origin(self) -> str:
        """Scheme and host, as far as it is known."""
        return f"{self._schemes[0]}://{self.host}"

    def is_own(self, url: str) -> bool:
        """Tell whether an address is the registry's own: of the same scheme, host and port."""
        return _place(urlsplit(url)) in [_place(urlsplit(f"{scheme}://{self.host}")) for scheme in self._schemes]

    def leads_to(self, source: str, location: str) -> str:
        """Return the address that an answer of `source` names. Raises Failed where going there would be less safe."""
        try:
            target = urljoin(source, location)
            old, new = urlsplit(source), urlsplit(target)
            cause = "" if new.port != 0 else "that is no address to go to"
        except ValueError:
            raise Failed(f"can't follow {source[:200]} to {location[:200]!r}: that is no address") from None
        if new.scheme not in ("http", "https") or not new.hostname or new.username is not None:
            cause = "that is no address to go to"
        elif old.scheme == "https" and new.scheme != "https":
            cause = "it leads from https to http"
        elif is_loopback(new.netloc) and not is_loopback(old.netloc):
            cause = "it leads from another machine to this one's loopback"
        if cause:
            raise Failed(
                f"can't follow {old.netloc} to {target[:200]}: {cause}",
                "a proxy before the registry may have to be told to set X-Forwarded-Proto and X-Forwarded-Host",
            )
        return target

    def stop(self) -> None:
        """End what waits or reads here, from any thread: it raises Failed, now or when it goes on."""
        self._stopped.set()
        for response in tuple(self._reading):
            with suppress(OSError, ValueError, RuntimeError):  # it has come to its end just now
                response.shutdown()

    def check_stopped(self, cause: BaseException | None = None) -> None:
        """Raise Failed after `stop`."""
        if self._stopped.is_set():
            raise Failed("it was stopped") from cause

    def wait(self, seconds: float) -> None:
        """Sleep, unless it is stopped."""
        self._stopped.wait(seconds)
        self.check_stopped()

    def stream(self, answer: Answer) -> Iterator[bytes]:
        """Read a long body piece by piece. Raises urllib3's HTTPError where it breaks off."""
        response = answer.response
        self._reading.add(response)
        try:
            self.check_stopped()
            with response:
                for piece in response.stream(PIECE, decode_content=False):
                    self.check_stopped()
                    yield piece
        except ValueError as e:  # a TLS socket that was shut; ssl.SSLSocket.read
            self.check_stopped(e)
            raise
        finally:
            self._reading.discard(response)

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
            if scheme == schemes[-1] or not _wants_tls(answer):
                self._schemes = (scheme,)
                return answer
        assert first is not None
        raise first

    def send_elsewhere(self, request: Request, authorization: str | None) -> Answer:
        """Send a request to another server, which the registry named, and `authorization` to that one only.

        What has a body is not redirected: there are secrets in it.
        """
        place = _place(urlsplit(request.path))
        return self._follow(request, request.path, authorization, lambda url: _place(urlsplit(url)) == place)

    def _sent(self, body: Iterable[bytes]) -> Iterator[bytes]:
        for piece in body:
            view = memoryview(piece)
            for start in range(0, len(view), _SENT_AT_ONCE):
                self.check_stopped()
                yield view[start : start + _SENT_AT_ONCE]  # type: ignore[misc]  # urllib3 takes any buffer

    def _timeout(self, patience: float) -> urllib3.Timeout:
        return urllib3.Timeout(connect=min(_CONNECT_S, self._timeout_s), read=self._timeout_s * patience)

    def _follow(self, request: Request, url: str, authorization: str | None, is_own: Callable[[str], bool]) -> Answer:
        for _ in range(_REDIRECTS):
            # Storage servers refuse a foreign Authorization header, and must not learn it.
            own = {"Authorization": authorization} if authorization and is_own(url) else {}
            body = self._sent(request.body()) if callable(request.body) else request.body
            response = self._http.request(
                request.method,
                url,
                body=body,
                headers={**self._http.headers, **request.headers, **own},
                timeout=self._timeout(request.patience),
                preload_content=False,
                redirect=False,
            )
            answer = Answer(response, url)
            location = answer.header("Location")
            if response.status not in _REDIRECTING or not location:
                return answer
            if not request.follows(response.status):
                raise Failed(f"can't {request}: it is redirected, with HTTP status {response.status}")
            answer.discard()
            url = self.leads_to(answer.url, location)
        raise Failed(f"can't {request}: too many redirects")


def _may_speak_otherwise(error: HTTPError) -> bool:
    return isinstance(error, ProtocolError | SSLError | NewConnectionError)


def _wants_tls(answer: Answer) -> bool:
    """Tell whether this is what a server says to plain http where it expects TLS; a registry's errors are JSON."""
    if answer.status != 400 or "json" in answer.header("Content-Type"):
        return False
    text = answer.document(_DISCARDED, "the answer")
    return any(words in text for words in _WANTS_TLS)


_PORTS = {"http": 80, "https": 443}


def _place(url: SplitResult) -> tuple[str, str | None, int | None]:
    try:
        port = url.port
    except ValueError:  # out of range
        port = -1
    return url.scheme, url.hostname, _PORTS.get(url.scheme) if port is None else port


def is_loopback(host: str) -> bool:
    """Tell whether `host` (with a port or not) is this machine's loopback."""
    name = host
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        name = host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def refused(error: BaseException | None) -> bool:
    """Tell whether it is of no use to try again at once: nobody listens, there is no such host, TLS is not agreed."""
    if isinstance(error, NewConnectionError):
        return True
    while error is not None:
        if isinstance(error, ConnectionRefusedError | SSLError):
            return True
        if isinstance(error, MaxRetryError):
            error = error.reason
        else:
            error = error.__cause__ or error.__context__
    return False


def unreachable(host: str, error: HTTPError) -> Failed:
    """Say why there is no connection to a host."""
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) is not None and not isinstance(cause, OSError):
        cause = below
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    hint = "check the registry's name and that it runs"
    if isinstance(cause, SSLError) or "CERTIFICATE" in text:
        hint = "its certificate is not trusted here, or it speaks plain http"
    return Failed(f"can't reach registry {host}: {text[:300].lower()}", hint)
