"""One request as a handler sees it: the store, what is permitted, what was asked, and the ways to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs

from sampan.registry.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.http11.channel import Channel, Headers, Request
    from sampan.registry.routes import Route
    from sampan.registry.store import Repositories, Store


class Policy(NamedTuple):
    """What this registry permits."""

    read_only: bool = False
    no_delete: bool = False
    sparse_indexes: bool = False  # an index may name manifests that are not there


class Call:
    """A request that found its endpoint, and may have it."""

    def __init__(self, channel: Channel, request: Request, route: Route, store: Store, policy: Policy) -> None:
        self.store = store
        self.policy = policy
        self.name = route.name
        self.last = route.last
        self._channel = channel
        self._request = request
        self._query = _parse_query(request.query)

    @property
    def repositories(self) -> Repositories:
        """Which repository has what."""
        return self.store.repositories

    @property
    def method(self) -> str:
        """GET or HEAD, where both have one handler."""
        return self._request.method

    @property
    def path(self) -> str:
        """The request's path, without the query."""
        return self._request.path

    def query(self, name: str) -> str:
        """Return a query parameter, "" where it is not given."""
        return self._query.get(name, [""])[0]

    def queries(self, name: str) -> list[str]:
        """Return all values of a query parameter."""
        return self._query.get(name, [])

    def header(self, name: str) -> str:
        """Return a header by its name in lower case, "" where it is not given."""
        return self._request.headers.get(name, "")

    @property
    def length(self) -> int | None:
        """How long the body says it is; None where it comes in chunks."""
        return self._request.length

    def body(self, limit: int) -> bytes:
        """Read a small body. Raises TooLarge."""
        return self._channel.body(limit)

    def pieces(self) -> Iterator[memoryview]:
        """Give the body as it arrives."""
        return self._channel.body_pieces()

    def interrupt(self) -> None:
        """Break this request's connection; called from another thread."""
        self._channel.interrupt()

    # ---------------------------------------------------------------------------------------- answers

    def done(self, status: int, headers: Headers | None = None) -> None:
        """Answer without a body."""
        self._channel.reply(status, headers=headers)

    def answer(self, document: bytes, content_type: str, headers: Headers | None = None) -> None:
        """Answer a document."""
        self._channel.reply(200, document, content_type, headers)

    def send_file(self, status: int, file: int, span: range, content_type: str, headers: Headers) -> None:
        """Answer with a part of a file."""
        self._channel.send_file(status, file, span, content_type, headers)


def _parse_query(text: str) -> dict[str, list[str]]:
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=100) if text else {}
    except ValueError as e:
        raise Refusal("UNSUPPORTED", "too many parameters in the query", status=400) from e
