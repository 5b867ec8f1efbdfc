"""What a pull would do, without doing it: of each layer, what is here and what would be fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.errors import SampanError
from sampan.ids import short
from sampan.image import unfinished
from sampan.image.pull import look_up
from sampan.spec.pulling import LayerPlan, LayerState, PullPlan

if TYPE_CHECKING:
    from sampan.image.layers import Resume
    from sampan.image.pull import Remote
    from sampan.image.registry import Repository
    from sampan.image.store import Images
    from sampan.spec.distribution import Descriptor, Platform
    from sampan.spec.image import Image
    from sampan.spec.reference import Reference


def plan(
    images: Images, repository: Repository, ref: Reference, *, platform: Platform | None, resume: Resume
) -> PullPlan:
    """Say what `Puller.pull` would do. Manifest and configuration are fetched for it, no layer."""
    remote = look_up(repository, ref, platform)
    users = _users(images)
    layers = tuple(
        _layer(images, diff_id, layer, resume=resume, users=users.get(diff_id, ()))
        for diff_id, layer in remote.layers.items()
    )
    return PullPlan(
        name=ref.familiar(),
        digest=remote.digest,
        id=remote.id,
        platform=remote.view.platform.familiar(),
        is_here=_is_here(images, ref, remote),
        layers=layers,
    )


def _layer(images: Images, diff_id: str, layer: Descriptor, *, resume: Resume, users: tuple[str, ...]) -> LayerPlan:
    state, fetched = LayerState.FETCHED, layer.size
    if images.layers.find(diff_id) is not None:
        state, fetched = LayerState.HERE, 0
    elif (come := images.layers.coming(diff_id)) is not None:
        state, fetched = LayerState.COMING, max(0, layer.size - come)
    elif (interrupted := resume(unfinished.key(layer, diff_id))) is not None:
        interrupted.close()
        state, fetched = LayerState.INTERRUPTED, layer.size - interrupted.offset
    return LayerPlan(
        digest=layer.digest,
        diff_id=diff_id,
        media_type=layer.media_type,
        size=layer.size,
        state=state,
        fetched=fetched,
        images=users,
    )


def _users(images: Images) -> dict[str, tuple[str, ...]]:
    """Return, by diff id, the names of the images that have a layer."""
    found: dict[str, list[str]] = {}
    for image in images.list():
        for diff_id in dict.fromkeys(image.diff_ids):
            found.setdefault(diff_id, []).append(_name(image))
    return {diff_id: tuple(names) for diff_id, names in found.items()}


def _name(image: Image) -> str:
    return next(iter((*image.repo_tags, *image.repo_digests)), short(image.id))


def _is_here(images: Images, ref: Reference, remote: Remote) -> bool:
    try:
        return images.resolve(str(ref)).id == remote.id
    except SampanError:
        return False
