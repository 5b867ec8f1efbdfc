"""What builds keep: told (`builder du`, `system df`), and removed (`builder prune`) when nobody works with it.

Two kinds, in BuildKit's words: `regular` is what a step made, `exec.cachemount` what a RUN --mount=type=cache holds. A
step's layer is `shared` while an image has it, too: then nothing is given back with the step.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from sampan.engine.filtering import check, labels_pass, search, truth, until_ns
from sampan.engine.keeping import FILTERED, Stays
from sampan.engine.requests import BuildPruneQuery
from sampan.errors import InvalidInput
from sampan.spec import docker
from sampan.units import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sampan.build.cache import Record
    from sampan.engine.core import Core
    from sampan.engine.requests import Filters

STEP, MOUNT = "regular", "exec.cachemount"
_FILTERS = frozenset({"description", "id", "inuse", "label", "label!", "parent", "private", "shared", "type", "until"})
"""A step has no labels: a prune of everything that has one leaves the cache. Docker removes it all then."""


class Kept(NamedTuple):
    """One thing that is kept: as it is told, by what it is removed, and when it was last used."""

    told: docker.BuildCache
    key: str
    used_ns: int


def kept(core: Core, without: Collection[str] = ()) -> list[Kept]:
    """Return all that is kept, what was not used for longest first; as if there were no images of the ids `without`."""
    return sorted((*_steps(core, without), *_mounts(core)), key=lambda each: each.used_ns)


def records(core: Core) -> tuple[docker.BuildCache, ...]:
    """Return the same as `system df` tells it."""
    return tuple(each.told for each in kept(core))


def prune(core: Core, query: BuildPruneQuery) -> docker.BuildPruneResponse:
    """Remove what the filters leave, until so much room is taken as may be; without `all` what no image shares."""
    answer = _prune(core, query)
    core.bus.tell("builder", "prune", "", {"reclaimed": str(answer.space_reclaimed)})
    return answer


def chosen(core: Core, query: BuildPruneQuery, without: Collection[str] = ()) -> Iterator[tuple[Kept, Stays | None]]:
    """Tell of each thing whether it goes, or why it stays; as if there were no images of the ids `without`."""
    check(query.filters, _FILTERS)
    everything = kept(core, without)
    left = sum(each.told.size for each in everything if not each.told.shared)
    limit = _limit(core, query, left)
    for each in everything:
        stays = _stays(each, query)
        if stays is None and limit is not None and left <= limit:
            stays = Stays("so much may stay")
        yield each, stays
        if stays is None and not each.told.shared:
            left -= each.told.size


def _stays(each: Kept, query: BuildPruneQuery) -> Stays | None:
    if each.told.in_use:
        return Stays("a build works with it")
    if each.told.shared and not query.all:
        return Stays("an image or a later step has its layer too", "sampan builder prune -a")
    return None if _passes(each, query.filters) else FILTERED


def _prune(core: Core, query: BuildPruneQuery) -> docker.BuildPruneResponse:
    gone, reclaimed = [], 0
    for each, stays in chosen(core, query):
        given_back = None if stays else _remove(core, each)
        if given_back is not None:
            gone.append(each.told.id)
            reclaimed += given_back
    core.cache.drop_selections()
    return docker.BuildPruneResponse(caches_deleted=tuple(gone) or None, space_reclaimed=reclaimed)


def collect(core: Core) -> None:
    """Put down what was used, and remove what is too much: what was not used for longest, and no image shares."""
    core.cache.settle()
    limits = core.settings.read().build
    status = os.statvfs(core.dirs.root)
    size, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    # What is kept can't be more than all that is used: no need to look how much it is.
    if 100 * free >= limits.min_free_percent * size and 100 * (size - free) <= limits.max_used_percent * size:
        return
    _prune(
        core,
        BuildPruneQuery(
            reserved_bytes=limits.reserved_percent * size // 100,
            max_used_bytes=limits.max_used_percent * size // 100,
            min_free_bytes=limits.min_free_percent * size // 100,
        ),
    )


def _steps(core: Core, without: Collection[str]) -> Iterator[Kept]:
    rows = core.cache.records()
    by_content: dict[str, str] = {row.content: row.id for row in rows}
    in_images = {
        diff_id for id, layers in core.images.layers_of_all().items() if id not in without for diff_id in layers
    }
    seen: set[str] = set()
    for row in reversed(rows):  # of two that hold one layer, the one that was used last has it
        yield Kept(_told(core, row, by_content, shared=row.diff_id in in_images | seen), row.key, row.used_ns)
        seen.add(row.diff_id)


def _told(core: Core, row: Record, by_content: dict[str, str], *, shared: bool) -> docker.BuildCache:
    parent = by_content.get(row.parent)
    return docker.BuildCache(
        id=row.id,
        parents=(parent,) if parent else None,
        type=STEP,
        description=row.instruction,
        in_use=core.images.layers.is_pinned(row.diff_id),
        shared=shared and bool(row.diff_id),
        size=row.size,
        created_at=format_timestamp(row.created_ns),
        last_used_at=format_timestamp(row.used_ns),
        usage_count=row.uses,
    )


def _mounts(core: Core) -> Iterator[Kept]:
    for about in core.cache_mounts.all():
        told = docker.BuildCache(
            id=about.name[:25],
            type=MOUNT,
            description=f"cache mount {about.id}",
            in_use=core.cache_mounts.in_use(about.name),
            size=about.bytes,
            created_at=format_timestamp(about.created_ns),
            last_used_at=format_timestamp(about.used_ns),
            usage_count=about.uses,
        )
        yield Kept(told, about.name, about.used_ns)


def _passes(each: Kept, filters: Filters) -> bool:
    until = until_ns(filters)
    if (until is not None and each.used_ns > until) or not labels_pass(filters, None):
        return False
    told = each.told
    for name, is_so in (("inuse", told.in_use), ("shared", told.shared), ("private", not told.shared)):
        if name in filters and (truth(filters, name) is not False) != is_so:
            return False
    return all(
        _only(filters, name) in (None, *found)
        for name, found in (
            ("type", (told.type,)),
            ("description", (told.description,)),
            ("parent", told.parents or ()),
        )
    ) and search(_only(filters, "id") or "", told.id)


def _only(filters: Filters, name: str) -> str | None:
    values = filters.get(name, ())
    if len(values) > 1:
        raise InvalidInput(f"filters expect only one value: {name}")
    return values[0] if values else None


def _limit(core: Core, query: BuildPruneQuery, total: int) -> int | None:
    """Return how many bytes may stay; None where all goes. BuildKit's cache/manager.go, calculateKeepBytes."""
    if not (query.reserved_bytes or query.max_used_bytes or query.min_free_bytes):
        return None
    limit = query.max_used_bytes
    status = os.statvfs(core.dirs.root)
    excess = query.min_free_bytes - status.f_bavail * status.f_frsize
    if excess > 0:
        limit = min(limit, total - excess) if limit else total - excess
    return max(limit, query.reserved_bytes)


def _remove(core: Core, each: Kept) -> int | None:
    """Remove one; return the bytes that it gave back, None where somebody works with it."""
    if each.told.in_use:
        return None
    if each.told.type == MOUNT:
        return each.told.size if core.cache_mounts.remove(each.key) else None
    freed = core.images.discard(core.cache.remove((each.key,)))
    return each.told.size if freed else 0
