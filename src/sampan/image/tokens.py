"""Who we are to one registry: the Authorization header for what is about to be done, from passwords or token servers.

Sources: RFC 9110, 11; distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

import base64
import re
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec
from urllib3.exceptions import HTTPError

from sampan.errors import Failed, NotPermitted
from sampan.image import challenge
from sampan.image.address import leads_to
from sampan.image.connections import unreachable
from sampan.image.refusals import errors_of
from sampan.image.transport import Request
from sampan.spec.decoding import decode_json
from sampan.spec.document import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sampan.image.transport import Answer, Transport
    from sampan.spec.distribution import AuthConfig

_CLIENT = "sampan"
_LARGEST_TOKEN = 1 << 20
_LEAST_LIFE_S = 60  # and what a token lives whose server does not say; the specification's
_SPARE_S = 10
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_SENDABLE = re.compile(r"[\x21-\x7e]+")  # anything else would end or break the header


class _Answer(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    refresh_token: str = ""
    expires_in: float | None = None


class _Token(NamedTuple):
    value: str
    scopes: Mapping[str, frozenset[str]]
    until: float  # of the monotonic clock


class NoCredentials(NotPermitted):
    """The registry wants a name and a password, and there are none."""


class Authorizer:
    """Answers a registry's challenges. Tokens are kept, each for its scopes, until they expire."""

    def __init__(
        self, transport: Transport, auth: AuthConfig | Callable[[], AuthConfig | None] | None, *, offline: bool = False
    ) -> None:
        """`auth` may be a function, called when the registry asks. `offline`: get an identity token, too."""
        self._transport = transport
        self._given = auth
        self._offline = offline
        self._lock = threading.Lock()
        self._tokens: list[_Token] = []
        self._challenge: challenge.Challenge | None = None
        self._fixed = auth.registry_token if auth is not None and not callable(auth) else ""
        self._granted = ""

    @cached_property
    def _auth(self) -> AuthConfig | None:
        return self._given() if callable(self._given) else self._given

    @property
    def identity_token(self) -> str:
        """What may be kept in place of the password: given, or granted by the token server."""
        return self._granted or (self._auth.identity_token if self._auth is not None else "")

    def header(self, scopes: frozenset[str]) -> str | None:
        """Return the header for scopes like `repository:a/b:pull,push`; None as long as the registry asks for none."""
        if self._fixed:
            return f"Bearer {self._fixed}"
        with self._lock:
            if self._challenge is None:
                return None
            if self._challenge.scheme == "basic":
                return _basic(self._auth) if self._auth is not None else None
            return f"Bearer {self._token(self._challenge.parameters, merged(scopes))}"

    def answer(self, header: str, scopes: frozenset[str], refused: str | None) -> str | None:
        """Answer the challenge in a WWW-Authenticate header; None where it can't be. `refused` is what was sent.

        Raises NotPermitted if the token server refuses, Failed if it is none to be trusted.
        """
        for asked in challenge.parse(header):
            if asked.scheme == "bearer" and "realm" in asked.parameters:
                parameters = {**asked.parameters, "realm": self._checked_realm(asked.parameters["realm"])}
                with self._lock:
                    self._challenge = challenge.Challenge(asked.scheme, parameters)
                    self._tokens = [token for token in self._tokens if f"Bearer {token.value}" != refused]
                    wanted = merged([*scopes, *parameters.get("scope", "").split()])
                    return f"Bearer {self._token(parameters, wanted)}"
            if asked.scheme == "basic":
                if self._auth is None or not self._auth.username:
                    raise NoCredentials("no basic auth credentials")
                with self._lock:
                    self._challenge = asked
                return _basic(self._auth)
        return None

    def _checked_realm(self, realm: str) -> str:
        """Refuse a token server that must not learn the credentials: beyond the loopback, only https."""
        address = leads_to(self._transport.origin, realm)
        parts = urlsplit(address)
        if parts.scheme != "https" and not self._transport.may_be_plain(parts.netloc):
            raise Failed(
                f"can't authenticate: the registry names an unsafe token server, {realm[:200]}",
                f'to speak plain http to it, write insecure = true below [registries."{parts.netloc}"]',
            )
        return address

    def _token(self, parameters: Mapping[str, str], scopes: Mapping[str, frozenset[str]]) -> str:
        now = time.monotonic()
        self._tokens = [token for token in self._tokens if token.until > now]
        for token in self._tokens:
            if all(actions <= token.scopes.get(resource, frozenset()) for resource, actions in scopes.items()):
                return token.value
        token = self._fetch(parameters, scopes, now)
        self._tokens.append(token)
        return token.value

    def _fetch(self, parameters: Mapping[str, str], scopes: Mapping[str, frozenset[str]], now: float) -> _Token:
        realm = parameters["realm"]
        host = urlsplit(realm).netloc
        texts = [f"{resource}:{','.join(sorted(actions))}" for resource, actions in sorted(scopes.items())]
        given = self._auth.identity_token if self._auth is not None else ""
        ask = self._ask_with_identity if given else self._ask_with_password
        try:
            answer = ask(realm, parameters.get("service", ""), texts)
        except HTTPError as e:
            raise unreachable(host, e) from e
        told = _read(answer, host)
        value = told.token or told.access_token
        if not _SENDABLE.fullmatch(value):
            raise Failed(f"can't authenticate at {host}: it gives no token that can be used")
        self._granted = told.refresh_token or self._granted
        life = max(told.expires_in or 0, _LEAST_LIFE_S)
        return _Token(value, scopes, now + life - _SPARE_S)

    def _ask_with_password(self, realm: str, service: str, scopes: list[str]) -> Answer:
        auth = self._auth
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        query += [("offline_token", "true"), ("client_id", _CLIENT)] if self._offline else []
        authorization = None
        if auth is not None and auth.username:
            query.append(("account", auth.username))
            authorization = _basic(auth)
        joint = "&" if "?" in realm else "?"
        return self._transport.send_elsewhere(Request("GET", realm + joint + urlencode(query)), authorization)

    def _ask_with_identity(self, realm: str, service: str, scopes: list[str]) -> Answer:
        fields = {
            "grant_type": "refresh_token",
            "refresh_token": self.identity_token,
            "service": service,
            "client_id": _CLIENT,
            "scope": " ".join(scopes),
        }
        return self._transport.send_elsewhere(Request("POST", realm, _FORM, urlencode(fields).encode()), None)


def merged(scopes: Iterable[str]) -> dict[str, frozenset[str]]:
    """Join scopes of the same resource: actions by `type:name`."""
    found: dict[str, frozenset[str]] = {}
    for scope in scopes:
        resource, _, actions = scope.rpartition(":")
        if resource:
            found[resource] = found.get(resource, frozenset()) | frozenset(actions.split(","))
    return found


def _read(answer: Answer, host: str) -> _Answer:
    body = answer.document(_LARGEST_TOKEN, f"the token of {host}")
    if answer.status in (400, 401, 403):
        words = next((str(error) for error in errors_of(body)), "")
        raise NotPermitted(words or "unauthorized: incorrect username or password")
    if answer.status >= 300:
        raise Failed(f"can't authenticate at {host}: HTTP status {answer.status}")
    try:
        return decode_json(body, _Answer)
    except UNREADABLE as e:
        raise Failed(f"can't authenticate at {host}: {e}") from e


def _basic(auth: AuthConfig) -> str:
    return "Basic " + base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
