"""Have a registry say whether it takes a name and a password, as Docker's engine does for `docker login`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from sampan.errors import Failed, InvalidInput, NotPermitted
from sampan.image.connections import unreachable
from sampan.image.refusals import phrase
from sampan.image.tokens import Authorizer, NoCredentials
from sampan.image.transport import Request

if TYPE_CHECKING:
    from sampan.image.transport import Answer, Transport
    from sampan.spec.distribution import AuthConfig

_BASE = Request("GET", "/v2/")
_NOBODY: frozenset[str] = frozenset()


class Unauthorized(NotPermitted):
    """The registry does not take them. Clients ask for others at this status."""

    http_status = 401


def log_in(transport: Transport, auth: AuthConfig) -> str:
    """Return the identity token that the registry grants in place of the password, "" where it grants none.

    Raises Unauthorized, or Failed where it can't be asked.
    """
    who = Authorizer(transport, auth, offline=True)
    try:
        answer = transport.send(_BASE)
        if answer.status == 401:
            answer = _answered(transport, who, answer)
    except HTTPError as e:
        raise unreachable(transport.host, e) from e
    answer.discard()
    if answer.status != 200:
        raise _refusal(answer.url, answer.status)
    return who.identity_token


def _answered(transport: Transport, who: Authorizer, answer: Answer) -> Answer:
    answer.discard()
    try:
        authorization = who.answer(answer.header("WWW-Authenticate"), _NOBODY, None)
    except NoCredentials:
        raise InvalidInput("can't log in: no user name is given") from None
    except NotPermitted as e:
        raise Unauthorized(f'Get "{answer.url}": {e.message}', e.hint) from e
    return answer if authorization is None else transport.send(_BASE, authorization)


def _refusal(url: str, status: int) -> Failed | Unauthorized:
    message = f"login attempt to {url} failed with status: {status} {phrase(status)}".rstrip()
    return Unauthorized(message, "check the name and the password") if status in (401, 403) else Failed(message)
