"""One place where a repository is: asks it with authentication and patience, and raises what a refusal means."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from sampan.errors import Failed, NotPermitted, SampanError
from sampan.image import refusals
from sampan.image.connections import refused, unreachable
from sampan.image.tokens import Authorizer, NoCredentials
from sampan.image.transport import Request, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sampan.image.patience import Patience
    from sampan.image.transport import Answer
    from sampan.spec.distribution import AuthConfig
    from sampan.spec.reference import Reference
    from sampan.spec.settings import Place, Registries

_LONGEST_WAIT_S = 60.0
_FOR_GOOD = frozenset((501, 505))  # of the statuses from 500, those that another try does not change

PULL, PUSH, DELETE = "pull", "push", "delete"
_ACTIONS = {PULL: "pull", PUSH: "pull,push", DELETE: "delete,pull,push"}


class Endpoint:
    """A repository at one host. Several threads may use it."""

    def __init__(
        self,
        place: Place,
        *,
        reference: Reference,
        auth: AuthConfig | Callable[[], AuthConfig | None] | None,
        registries: Registries,
        patience: Patience,
    ) -> None:
        self.host = place.host
        self.repository = place.repository
        self.transport = Transport(place, registries)
        self._reference = reference  # as the user knows it, for messages
        self.patience = patience
        self._authorizer = Authorizer(self.transport, auth)

    def scopes(self, doing: str, *others: str) -> frozenset[str]:
        """Return what a verb needs of this repository, and of `others` to read them."""
        own = f"repository:{self.repository}:{_ACTIONS[doing]}"
        return frozenset({own, *(f"repository:{other}:pull" for other in others)})

    def path(self, tail: str) -> str:
        """Return the path of what is below the repository."""
        return f"/v2/{self.repository}/{tail}"

    def ask(
        self, request: Request, doing: str = PULL, *, scopes: frozenset[str] | None = None, also: Collection[int] = ()
    ) -> Answer:
        """Return a successful answer, or one of a status in `also`. A busy or broken registry is asked again.

        Raises NotFound, NotPermitted, Unsupported, InvalidInput or Failed, which say what the verb could not do.
        """
        wanted = scopes if scopes is not None else self.scopes(doing)
        for attempt in range(1, self.patience.tries + 1):
            last = attempt == self.patience.tries
            try:
                answer = self.ask_once(request, doing, wanted)
            except HTTPError as e:
                if last or refused(e, for_good=self.patience.is_asked):
                    raise unreachable(self.transport.host, e) from e
                self.pause(attempt)
                continue
            if answer.status < 300 or answer.status in also:
                return answer
            wait = self._wait_for(answer, attempt)
            if last or wait is None:
                raise self.refusal(answer, doing)
            answer.discard()
            self.transport.wait(wait)
        raise AssertionError

    def ask_once(self, request: Request, doing: str, scopes: frozenset[str]) -> Answer:
        """Return the answer, whatever its status, after authentication. Raises HTTPError where the connection fails."""
        try:
            authorization = self._authorizer.header(scopes)
        except NotPermitted as e:
            raise refusals.denied(self._reference, doing, e.message) from e
        answer = self.transport.send(request, authorization)
        # A 401 of where a redirect led to is no business of ours: CVE-2020-15157.
        if answer.status != 401 or not self.transport.is_own(answer.url):
            return answer
        try:
            new = self._authorizer.answer(answer.header("WWW-Authenticate"), scopes, authorization)
        except SampanError as e:
            answer.discard()
            if isinstance(e, NotPermitted):
                cause = f"unauthorized: {e.message}" if isinstance(e, NoCredentials) else e.message
                raise refusals.denied(self._reference, doing, cause) from e
            raise
        if new is None or new == authorization:
            return answer
        answer.discard()
        return self.transport.send(request, new)

    def refusal(self, answer: Answer, doing: str) -> SampanError:
        """Say what an answer that is no success means."""
        wait = _asked_for_s(answer)
        error = refusals.explain(answer, self._reference, doing)
        if answer.status == 429 and wait:
            return Failed(error.message, f"try again in {wait:.0f} s: so the registry asks")
        return error

    def pause(self, failures: int) -> None:
        """Wait after that many failures."""
        self.transport.wait(self.patience.after_s(failures))

    def _wait_for(self, answer: Answer, attempt: int) -> float | None:
        """Return how long to wait before asking again; None if that is of no use."""
        if answer.status != 429 and (answer.status < 500 or answer.status in _FOR_GOOD):
            return None
        asked = _asked_for_s(answer)
        if asked is None:
            return self.patience.after_s(attempt)
        return asked if asked <= _LONGEST_WAIT_S else None


def _asked_for_s(answer: Answer) -> float | None:
    """Read Retry-After: seconds, or a date; RFC 9110, 10.2.3."""
    text = answer.header("Retry-After").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time()) if text else None
    except (ValueError, OverflowError):
        return None
