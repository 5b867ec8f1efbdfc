"""Who may do what: everybody everything, known users everything, or besides them everybody pulling."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from sampan.registry.htpasswd import Htpasswd, Login, login
from sampan.registry.refusal import Refusal
from sampan.spec.decoding import decode_json

if TYPE_CHECKING:
    from sampan.http11.channel import Request

TOKEN_PATH = "/v2/token"  # noqa: S105
"""No repository's endpoint reads like this."""

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_REPOSITORY = re.compile(r"/v2/([a-z0-9._/-]{1,255})/(?:blobs|manifests|tags|referrers)/.*")
_TOKEN_S = 300
_SERVICE = "sampan registry"


class Access(Protocol):
    """Decides about a request before anything else of it is looked at."""

    def check(self, request: Request, *, writes: bool) -> str:
        """Return the user's name, "" for nobody. Raises Refusal."""

    def token(self, request: Request) -> bytes | None:
        """Return the answer where a token is asked for, None where it is another request. Raises Refusal."""


class Open:
    """Everybody may do everything."""

    def check(self, request: Request, *, writes: bool) -> str:  # noqa: ARG002
        return ""

    def token(self, request: Request) -> bytes | None:  # noqa: ARG002
        return None


class Known:
    """Known users may do everything, and nobody else anything."""

    def __init__(self, users: Htpasswd) -> None:
        self._users = users

    def check(self, request: Request, *, writes: bool) -> str:  # noqa: ARG002
        given = login(request.headers.get("authorization", ""))
        if given is None or not self._users.is_right(given):
            raise _unauthorized(f'Basic realm="{_SERVICE}", charset="UTF-8"')
        return given.user

    def token(self, request: Request) -> bytes | None:  # noqa: ARG002
        return None


class KnownOrPulling:
    """Known users may do everything, and everybody may pull.

    Clients learn from `GET /v2/` how to log in, and never again: 200 would mean that nobody has to. A challenge of the
    scheme Basic makes Docker's client refuse to go on without a password. So the challenge is for a token, as public
    registries have it, and a token is had with a password or without.
    """

    def __init__(self, users: Htpasswd, *, tls: bool) -> None:
        self._users = users
        self._scheme = "https" if tls else "http"
        self._key = os.urandom(32)

    def check(self, request: Request, *, writes: bool) -> str:
        header = request.headers.get("authorization", "")
        user = self._user(header)
        at_base = request.path in ("/v2", "/v2/")
        if user is None or (not user and (writes or (at_base and not header))):
            raise _unauthorized(self._challenge(request, writes=writes))
        return user

    def _user(self, header: str) -> str | None:
        """Return the user, "" for nobody in particular, None for a login or token that is wrong."""
        if not header:
            return ""
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer":
            return self._read(token.strip())
        given = login(header)
        return self._logged_in(given) if given else None

    def _logged_in(self, given: Login) -> str | None:
        if not given.user and not given.password:  # so podman writes that it has no password
            return ""
        return given.user if self._users.is_right(given) else None

    def token(self, request: Request) -> bytes | None:
        if request.path != TOKEN_PATH or request.method != "GET":
            return None
        given = login(request.headers.get("authorization", ""))
        user = self._logged_in(given) if given else ""
        if user is None:
            raise _unauthorized(f'Basic realm="{_SERVICE}", charset="UTF-8"')
        token = self._write(user)
        return msgspec.json.encode({"token": token, "access_token": token, "expires_in": _TOKEN_S})

    def _write(self, user: str) -> str:
        said = msgspec.json.encode((user, int(time.time()) + _TOKEN_S))
        return base64.urlsafe_b64encode(hmac.digest(self._key, said, "sha256") + said).decode()

    def _read(self, token: str) -> str | None:
        try:
            data = base64.urlsafe_b64decode(token.encode("ascii"))
        except (UnicodeError, binascii.Error):
            return None
        mark, said = data[:32], data[32:]
        if not hmac.compare_digest(mark, hmac.digest(self._key, said, "sha256")):
            return None
        user, until = decode_json(said, tuple[str, int])
        return user if time.time() < until else None

    def _challenge(self, request: Request, *, writes: bool) -> str:
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            raise Refusal("UNSUPPORTED", "the Host header is malformed", status=400)
        scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else self._scheme
        challenge = f'Bearer realm="{scheme}://{host}{TOKEN_PATH}",service="{_SERVICE}"'
        if match := _REPOSITORY.fullmatch(request.path):
            challenge += f',scope="repository:{match[1]}:pull{",push" if writes else ""}"'
        return challenge


def _unauthorized(challenge: str) -> Refusal:
    return Refusal("UNAUTHORIZED", "authentication required", headers={"WWW-Authenticate": challenge})
