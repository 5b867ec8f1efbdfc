"""Talk to a registry: the OCI distribution specification's reading half, with Docker's token authentication.

A registry on this machine's loopback is spoken to in plain http, all others in https. Credentials go to the registry
and to the token server that it names, never along with a redirect to another host.
"""

from __future__ import annotations

import base64
import ipaddress
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError, SSLError

from sampan import __version__
from sampan.errors import Failed, InvalidInput, NotFound, NotPermitted, SampanError
from sampan.image import auth as credentials, challenge
from sampan.image.blobs import digest_of
from sampan.spec.distribution import INDEXES, MANIFESTS, AuthConfig, Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from urllib3.response import BaseHTTPResponse

    from sampan.spec.reference import Reference

_LARGEST_MANIFEST = 4 << 20  # what registries accept; distribution-spec, "Pushing Manifests"
_LARGEST_CONFIG = 8 << 20
_PIECE = 1 << 18
_TRIES = 4
_LONGEST_WAIT_S = 10.0
_REDIRECTS = 5
_TIMEOUT = urllib3.Timeout(connect=15, read=60)
_DOCKER_HUB = "registry-1.docker.io"
_ACCEPT = ", ".join(sorted(INDEXES | MANIFESTS))


class _Error(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct, frozen=True):
    errors: tuple[_Error, ...] = ()


class _Token(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""


class Repository:
    """One repository of a registry, for reading. Several threads may use it."""

    def __init__(self, reference: Reference, auth: AuthConfig | None = None) -> None:
        self._reference = reference
        self._auth = auth if auth is not None else credentials.find(reference.registry)
        host = _DOCKER_HUB if reference.registry == "docker.io" else reference.registry
        self._base = f"{'http' if is_loopback(host) else 'https'}://{host}/v2/{reference.repository}"
        self._http = urllib3.PoolManager(
            timeout=_TIMEOUT, retries=False, maxsize=8, headers={"User-Agent": f"sampan/{__version__}"}
        )
        self._authorization: str | None = None
        if self._auth is not None and self._auth.registry_token:
            self._authorization = f"Bearer {self._auth.registry_token}"

    def log_in(self) -> None:
        """Have the registry check the credentials, and nothing else. Raises NotPermitted."""
        self._get(f"{self._base.partition('/v2/')[0]}/v2/").drain_conn()

    def manifest(self, tag_or_digest: str) -> tuple[bytes, str | None]:
        """Fetch a manifest or index; return its bytes, verified where asked for by digest, and its media type."""
        with self._get(f"manifests/{tag_or_digest}", {"Accept": _ACCEPT}) as response:
            data = _read(response, _LARGEST_MANIFEST, f"manifest {tag_or_digest}")
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip() or None
        if ":" in tag_or_digest:
            _verify(data, tag_or_digest)
        return data, media_type

    def document(self, wanted: Descriptor) -> bytes:
        """Fetch a small blob, verified."""
        if wanted.size > _LARGEST_CONFIG:
            raise InvalidInput(f"can't use {wanted.digest}: a configuration of {wanted.size} bytes")
        with self._get(f"blobs/{wanted.digest}") as response:
            data = _read(response, wanted.size, f"blob {wanted.digest}")
        _verify(data, wanted.digest)
        return data

    def blob(self, wanted: Descriptor) -> Iterator[bytes]:
        """Fetch a blob piece by piece; where the connection breaks, go on where it broke. The caller verifies it."""
        count = failures = 0
        while count < wanted.size:
            before = count
            try:
                with self._get(f"blobs/{wanted.digest}", {"Range": f"bytes={count}-"} if count else {}) as response:
                    skip = count if response.status == 200 else 0  # a server without ranges starts anew
                    for piece in response.stream(_PIECE, decode_content=False):
                        if skip:
                            piece, skip = piece[skip:], max(0, skip - len(piece))  # noqa: PLW2901
                        count += len(piece)
                        if count > wanted.size:
                            raise InvalidInput(f"blob {wanted.digest} is longer than {wanted.size} bytes")
                        if piece:
                            yield piece
                cause: Exception | None = None
            except HTTPError as e:
                cause = e
            if count < wanted.size:
                failures = failures + 1 if count == before else 1
                if failures >= _TRIES:
                    raise Failed(f"blob {wanted.digest} broke off after {count} of {wanted.size} bytes") from cause
                time.sleep(_wait(failures, None))

    def _get(self, path: str, headers: Mapping[str, str] | None = None) -> BaseHTTPResponse:
        """GET with authentication, a few tries, and redirects; raise what a failure means to the user."""
        url = path if path.startswith(("http://", "https://")) else f"{self._base}/{path}"
        asked = False
        for attempt in range(1, _TRIES + 1):
            last = attempt == _TRIES
            try:
                response = self._follow(url, headers or {})
            except HTTPError as e:
                if last or isinstance(e, NewConnectionError | SSLError) or _is_refused(e):
                    raise _unreachable(url, e) from e
                time.sleep(_wait(attempt, None))
                continue
            if response.status < 300:
                return response
            if response.status == 401 and not asked:
                asked = True
                self._authorization = self._authorize(response)
                if self._authorization is not None:
                    response = self._follow(url, headers or {})
                    if response.status < 300:
                        return response
            if last or not (response.status == 429 or response.status >= 500):
                raise self._explain(response)
            wait = _wait(attempt, response.headers.get("Retry-After"))
            response.drain_conn()
            time.sleep(wait)
        raise AssertionError

    def _follow(self, url: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        origin = urlsplit(url)
        for _ in range(_REDIRECTS):
            parts = urlsplit(url)
            # Storage servers refuse a foreign Authorization header, and must not learn it.
            same = (parts.scheme, parts.netloc) == (origin.scheme, origin.netloc)
            own = {"Authorization": self._authorization} if same and self._authorization else {}
            response = self._http.request(
                "GET", url, headers={**self._http.headers, **headers, **own}, preload_content=False, redirect=False
            )
            location = response.get_redirect_location()
            if not location:
                return response
            response.drain_conn()
            url = urljoin(url, location)
            target = urlsplit(url)
            if target.scheme != "https" and parts.scheme == "https":
                raise Failed(f"can't follow {parts.netloc} to {target.netloc}: it leads from https to {target.scheme}")
        raise Failed(f"can't get {origin.geturl()}: too many redirects")

    def _authorize(self, response: BaseHTTPResponse) -> str | None:
        """Answer a 401: return the header to send, None if there is nothing to send."""
        response.drain_conn()
        for asked in challenge.parse(response.headers.get("WWW-Authenticate", "")):
            if asked.scheme == "bearer" and "realm" in asked.parameters:
                return f"Bearer {self._token(asked.parameters)}"
            if asked.scheme == "basic" and self._auth is not None and self._auth.username:
                return _basic(self._auth)
        return None

    def _token(self, parameters: Mapping[str, str]) -> str:
        """Fetch a token; distribution's "Token Authentication Specification" and its OAuth 2 form."""
        realm = parameters["realm"]
        host = urlsplit(realm).hostname or ""
        auth = self._auth
        if not realm.startswith("https://") and not (realm.startswith("http://") and is_loopback(host)):
            raise Failed(f"can't authenticate: the registry names an unsafe token server, {realm[:200]}")
        fields = {"service": parameters.get("service", "")}
        fields["scope"] = parameters.get("scope") or f"repository:{self._reference.repository}:pull"
        try:
            if auth is not None and auth.identity_token:
                fields |= {"grant_type": "refresh_token", "refresh_token": auth.identity_token, "client_id": "sampan"}
                response = self._http.request("POST", realm, fields=fields, encode_multipart=False, redirect=False)
            else:
                headers = {"Authorization": _basic(auth)} if auth is not None and auth.username else {}
                joint = "&" if "?" in realm else "?"
                response = self._http.request(
                    "GET", realm + joint + urlencode(fields), headers={**self._http.headers, **headers}, redirect=False
                )
        except HTTPError as e:
            raise _unreachable(realm, e) from e
        if response.status in {400, 401, 403}:
            raise self._denied(_error_of(response.data), response.status)
        if response.status >= 300:
            raise Failed(f"can't authenticate at {host}: HTTP status {response.status}")
        try:
            token = msgspec.json.decode(response.data, type=_Token)
        except msgspec.DecodeError as e:
            raise Failed(f"can't authenticate at {host}: {e}") from e
        return token.token or token.access_token

    def _explain(self, response: BaseHTTPResponse) -> SampanError:
        """Say what an answer that is no success means, in Docker's words."""
        error = _error_of(_read(response, _LARGEST_MANIFEST, "error", strict=False))
        cause = _words(error)
        status = response.status
        if status in {401, 403} or error.code in {"DENIED", "UNAUTHORIZED"}:
            return self._denied(error, status)
        if error.code == "NAME_UNKNOWN":
            return NotFound(f"repository {self._reference.familiar_name()} not found: {cause}")
        if status == 404:
            what = "manifest unknown: manifest unknown" if not error.code else cause
            return NotFound(f"manifest for {self._reference.familiar()} not found: {what}")
        if status == 429:
            return Failed(f"toomanyrequests: {error.message or 'the registry refuses more requests for now'}")
        return Failed(
            f"can't pull {self._reference.familiar()}: HTTP status {status}" + (f": {cause}" if cause else "")
        )

    def _denied(self, error: _Error, status: int) -> SampanError:
        cause = _words(error) or ("unauthorized: authentication required" if status == 401 else "denied")
        return NotPermitted(
            f"pull access denied for {self._reference.familiar_name()}, repository does not exist or may require "
            f"'docker login': {cause}",
            "check the name; credentials are read from ~/.docker/config.json",
        )


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


def _basic(auth: AuthConfig) -> str:
    return "Basic " + base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()


def _read(response: BaseHTTPResponse, limit: int, what: str, *, strict: bool = True) -> bytes:
    try:
        data = b"".join(_limited(response, limit))
    except HTTPError as e:
        raise Failed(f"can't read {what}: the connection broke off") from e
    if len(data) > limit and strict:
        raise InvalidInput(f"can't read {what}: it is longer than {limit} bytes")
    return data


def _limited(response: BaseHTTPResponse, limit: int) -> Iterator[bytes]:
    count = 0
    for piece in response.stream(_PIECE, decode_content=False):
        yield piece
        count += len(piece)
        if count > limit:
            response.close()
            return


def _verify(data: bytes, digest: str) -> None:
    if not digest.startswith("sha256:"):
        raise InvalidInput(f"can't verify {digest}: only sha256 is understood")
    found = digest_of(data)
    if found != digest:
        raise InvalidInput(
            f"digest does not match: what came is {found} and should be {digest}",
            "the data was damaged on its way, or the registry is wrong",
        )


def _error_of(body: bytes) -> _Error:
    try:
        return next(iter(msgspec.json.decode(body, type=_Errors).errors), _Error())
    except msgspec.DecodeError:
        return _Error()


def _words(error: _Error) -> str:
    return ": ".join(part for part in (error.code.lower().replace("_", " "), error.message) if part)


def _wait(attempt: int, retry_after: str | None) -> float:
    if retry_after and retry_after.isdigit():
        return min(float(retry_after), _LONGEST_WAIT_S)
    return 0.25 * 2.0**attempt


def _is_refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionRefusedError | SSLError):
            return True
        if isinstance(error, MaxRetryError):
            error = error.reason
        else:
            error = error.__cause__ or error.__context__
    return False


def _unreachable(url: str, error: HTTPError) -> Failed:
    host = urlsplit(url).netloc
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) is not None and not isinstance(cause, OSError):
        cause = below
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    hint = "check the registry's name and that it runs"
    if isinstance(cause, SSLError) or "CERTIFICATE" in text:
        hint = "its certificate is not trusted here, or it speaks plain http"
    return Failed(f"can't reach registry {host}: {text[:300].lower()}", hint)
