"""Lists in pages: `n` and `last` of a request, and the Link to what follows. Pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from sampan.registry.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST = 10_000
"""Names in a page, whatever was asked for: a list of any length costs bounded memory."""


def size(text: str) -> int:
    """Read `n`: how many at most. Raises Refusal."""
    if not text:
        return MOST
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise Refusal("PAGINATION_NUMBER_INVALID", "n must be a whole number, 0 or more", detail={"n": text[:100]})
    return min(int(text), MOST)


def page(names: Iterable[str], n: int, last: str) -> tuple[list[str], bool]:
    """Return the first `n` names behind `last` in the order of their bytes, and whether there are more."""
    if n == 0:
        return [], False
    found = heapq.nsmallest(n + 1, (name for name in names if name > last))
    return found[:n], len(found) > n


def link(path: str, n: int, last: str, more: Mapping[str, str] | None = None) -> str:
    """Return the Link header of the next page."""
    return f'<{quote(path)}?{urlencode({"n": n, "last": last, **(more or {})})}>; rel="next"'
