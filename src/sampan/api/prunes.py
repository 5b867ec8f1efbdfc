"""The handlers that remove what nothing uses, one for each kind of object, and the one that tells it beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine.requests import PRUNED, BuildPruneQuery, PrunePlanQuery

if TYPE_CHECKING:
    from sampan.api.call import Call


def containers(call: Call) -> None:
    """POST /containers/prune."""
    call.answer(call.engine.prunes.containers(call.filters()))


def images(call: Call) -> None:
    """POST /images/prune."""
    call.answer(call.engine.prunes.images(call.filters()))


def volumes(call: Call) -> None:
    """POST /volumes/prune. Before 1.42 named volumes went too."""
    filters = call.filters()
    if call.version < (1, 42):
        filters = {**filters, "all": ("true",)}
    call.answer(call.engine.prunes.volumes(filters))


def networks(call: Call) -> None:
    """POST /networks/prune."""
    call.answer(call.engine.prunes.networks(call.filters()))


def build_cache(call: Call) -> None:
    """POST /build/prune. Before 1.48 the reserved space was called keep-storage."""
    call.answer(call.engine.prunes.build_cache(_of_build_cache(call)))


def _of_build_cache(call: Call) -> BuildPruneQuery:
    return BuildPruneQuery(
        filters=call.filters(),
        all=call.flag("all"),
        reserved_bytes=_bytes(call, "reserved-space") or _bytes(call, "keep-storage"),
        max_used_bytes=_bytes(call, "max-used-space"),
        min_free_bytes=_bytes(call, "min-free-space"),
    )


def _bytes(call: Call, name: str) -> int:
    return max(0, call.integer(name) or 0)


def plan(call: Call) -> None:
    """GET /sampan/prune: what prunes of the kinds named by `kind` (none: of all) would remove."""
    cache = _of_build_cache(call)
    query = PrunePlanQuery(kinds=call.texts("kind") or PRUNED, filters=cache.filters, all=cache.all, cache=cache)
    call.answer(call.engine.prunes.plan(query))
