"""Which image an image was made from, as far as the images themselves tell. Pure.

Docker writes a parent down when it commits or builds. Here it is found: the image whose layers and history an image
begins with. One that came with a manifest has none, as in Docker: it was made elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sampan.spec.image import HistoryEntry, Image

    Making = tuple[tuple[str, ...], tuple[HistoryEntry, ...]]  # layers, history


def parents(images: Iterable[Image]) -> dict[str, str]:
    """Return the id of each image's parent, of those that have one among `images`."""
    known = {_making(image): image.id for image in images if image.config.history}
    found = {}
    for image in images:
        parent = None if image.manifest_digest else _parent(image, known)
        if parent is not None:
            found[image.id] = parent
    return found


def _making(image: Image) -> Making:
    return image.diff_ids, image.config.history or ()


def _parent(image: Image, known: Mapping[Making, str]) -> str | None:
    """Return the image that has the longest part of the history; the layers must be those of that part."""
    history = image.config.history or ()
    layers = len(image.diff_ids)
    if layers != sum(not step.empty_layer for step in history):
        return None
    for steps in range(len(history) - 1, 0, -1):
        layers -= not history[steps].empty_layer
        parent = known.get((image.diff_ids[:layers], history[:steps]))
        if parent is not None:
            return parent
    return None


def intermediate(images: Iterable[Image], parents: Mapping[str, str]) -> frozenset[str]:
    """Return the images without a name from which another was made: they go with the last of these."""
    nameless = {image.id for image in images if not image.repo_tags and not image.repo_digests and not image.host}
    return frozenset(nameless & set(parents.values()))


def orphans(id: str, parents: Mapping[str, str], is_kept: Callable[[str], bool]) -> list[str]:
    """Return what goes with the image `id`: its parent, that one's parent …, as far as nothing else keeps them."""
    found = []
    left = dict(parents)
    while (id := left.pop(id, "")) and id not in left.values() and not is_kept(id):
        found.append(id)
    return found
