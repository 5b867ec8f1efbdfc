"""What prunes would remove, how much that would give back, and why the rest stays: `prune --dry-run`, `df --why`.

Nothing is removed here. What goes, `keeping` decides, as for the prunes themselves.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sampan.engine import build_cache, keeping
from sampan.engine.image_listing import shown_name
from sampan.engine.requests import PRUNED
from sampan.errors import InvalidInput
from sampan.image import lineage
from sampan.rootfs.snapshots import tree_bytes
from sampan.spec import docker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.engine.core import Core
    from sampan.engine.keeping import Stays
    from sampan.engine.requests import PrunePlanQuery
    from sampan.spec.image import Image

_INTERRUPTED = "layers of interrupted pulls"


def plan(core: Core, query: PrunePlanQuery) -> docker.PrunePlan:
    """Return it for the kinds asked for, in the order of `PRUNED`: what only goes with another kind goes then."""
    unknown = sorted(set(query.kinds) - set(PRUNED))
    if unknown:
        raise InvalidInput(f"unknown kind of object: {', '.join(unknown)}", f"there are {', '.join(PRUNED)}")
    items: list[docker.PruneItem] = []
    for kind in PRUNED:
        if kind in query.kinds:
            items += _items(core, kind, query, items)
    going = sum(item.freed for item in items if not item.kept)
    return docker.PrunePlan(items=tuple(items), space_reclaimed=going)


def _items(core: Core, kind: str, query: PrunePlanQuery, before: list[docker.PruneItem]) -> Iterator[docker.PruneItem]:
    gone = frozenset(item.id for item in before if item.kind == "container" and not item.kept)
    match kind:
        case "container":
            for container, stays in keeping.containers(core, query.filters):
                yield _item(kind, container.id, container.name, core.snapshots.usage(container.id), stays)
        case "network":
            for network, stays in keeping.networks(core, query.filters, gone):
                yield _item(kind, network.id, network.name, 0, stays)
        case "volume":
            for volume, stays in keeping.volumes(core, query.filters, gone):
                size = tree_bytes(core.volumes.directory(volume.name))
                yield _item(kind, volume.name, volume.name, size, stays)
        case "image":
            yield from _images(core, query, gone)
        case _:
            without = frozenset(item.id for item in before if item.kind == "image" and not item.kept)
            for each, stays in build_cache.chosen(core, query.cache, without):
                told = each.told
                freed = 0 if told.shared else told.size
                yield _item(kind, told.id, told.description, told.size, stays, freed)


def _item(kind: str, id: str, name: str, size: int, stays: Stays | None, freed: int | None = None) -> docker.PruneItem:
    kept, instead = stays or ("", "")
    freed = size if freed is None else freed
    return docker.PruneItem(kind=kind, id=id, name=name, size=size, freed=freed, kept=kept, instead=instead)


def _images(core: Core, query: PrunePlanQuery, gone: frozenset[str]) -> Iterator[docker.PruneItem]:
    """Tell of each image, with what it would give back by then: a layer goes with the last image that has it."""
    filters = {**query.filters, "dangling": ("false" if query.all else "true",)}
    decided = _with_parents(core, list(keeping.images(core, filters, gone)), gone)
    layers = core.images.layers_of_all()
    left = _holders(core, layers, {image.id for image, _ in decided}, gone)
    for image, stays in decided:
        own = layers.get(image.id, {})
        if not stays:
            left.subtract(own.keys())
        freed = sum(bytes for diff_id, bytes in own.items() if left[diff_id] <= bool(stays))
        yield _item("image", image.id, shown_name(image), sum(own.values()), stays, freed)
    if not query.filters:
        begun = sum(map(tree_bytes, core.images.layers.waiting()))
        if begun:
            yield _item("image", "", _INTERRUPTED, begun, None)


def _with_parents(
    core: Core, decided: list[tuple[Image, Stays | None]], gone: frozenset[str]
) -> list[tuple[Image, Stays | None]]:
    """Let what was only kept because another image was made from it go with the last of these."""
    parents = lineage.parents(core.images.list(all=True))
    users = {id for container in core.registry if container.id not in gone for id in container.image_ids}
    known = {image.id: image for image, _ in decided}
    going = {image.id for image, stays in decided if not stays}

    def is_kept(id: str) -> bool:
        image = known.get(id)
        return image is None or id in users or (id not in going and bool(image.repo_tags or image.repo_digests))

    for id in list(going):
        going.update(lineage.orphans(id, parents, is_kept))
        parents.pop(id, None)
    return [(image, None if image.id in going else stays) for image, stays in decided]


def _holders(
    core: Core, layers: Mapping[str, Mapping[str, int]], listed: set[str], gone: frozenset[str]
) -> Counter[str]:
    """Count who has each layer: the images, also those that are kept for a container only, and the builds' cache."""
    users = {id for container in core.registry if container.id not in gone for id in container.image_ids}
    found = Counter(diff_id for id, own in layers.items() if id in listed or id in users for diff_id in own)
    found.update(core.cache.diff_ids())
    return found
