"""Prunes: remove what nothing uses, of one kind each, and tell how much that gave back.

What is in use when its turn comes, because somebody was faster, stays without a word. Source: moby, daemon/prune.go
and daemon/images/image_prune.go. One thing is not taken over: there `image prune -a` takes all names but one of an
image that a container uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine import imaging, lists, removing
from sampan.engine.filtering import check, duration_ns, labels_pass, truth, until_ns
from sampan.engine.image_listing import Surroundings, surroundings, unused_ns
from sampan.engine.unpacking import Unpacker
from sampan.errors import Conflict, NotFound
from sampan.rootfs.snapshots import tree_bytes
from sampan.spec import docker

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.requests import Filters
    from sampan.spec.image import Image, Removal

_CONTAINERS = frozenset({"label", "label!", "until"})
_IMAGES = frozenset({"dangling", "label", "label!", "until", "unused-for"})
_VOLUMES = frozenset({"all", "label", "label!"})


def prune_containers(core: Core, filters: Filters) -> docker.ContainerPruneResponse:
    """Remove the containers that do not run, created until then and with these labels."""
    check(filters, _CONTAINERS)
    until = until_ns(filters)
    gone, reclaimed = [], 0
    for container in core.registry:
        late = until is not None and container.created_ns > until
        if container.active or container.removed or late or not labels_pass(filters, container.body.labels):
            continue
        try:
            size = core.snapshots.usage(container.id)
            removing.remove(core, container, force=False, volumes=False)
        except Conflict:
            continue
        gone.append(container.id)
        reclaimed += size
    _tell(core, "container", reclaimed)
    return docker.ContainerPruneResponse(containers_deleted=tuple(gone) or None, space_reclaimed=reclaimed)


def prune_images(core: Core, filters: Filters) -> docker.ImagePruneResponse:
    """Remove the images without a tag, with `dangling` false all, that no container uses, and no list names."""
    check(filters, _IMAGES)
    only_dangling = truth(filters, "dangling") is not False
    until, least = until_ns(filters), duration_ns(filters.get("unused-for", ()), "unused-for")
    around, in_lists = surroundings(core), lists.listed(core)
    gone: list[Removal] = []
    for image in core.images.list(all=True):
        if (
            not (_is_needed(image, around) or image.id in in_lists)
            and not (only_dangling and image.repo_tags)
            and not (until is not None and image.created_ns > until)
            and unused_ns(image, around) >= least
            and labels_pass(filters, image.config.execution.labels)
        ):
            gone += _remove_image(core, image)
    reclaimed = sum(one.size for one in gone)
    if not filters.keys() - {"dangling"}:
        reclaimed += Unpacker(core).give_up()  # layers of pulls that were interrupted are nobody's image
    _tell(core, "image", reclaimed)
    items = tuple(imaging.response_item(one) for one in gone)
    return docker.ImagePruneResponse(images_deleted=items or None, space_reclaimed=reclaimed)


def _is_needed(image: Image, around: Surroundings) -> bool:
    return image.host or image.id in around.intermediate or bool(around.users.get(image.id))


def _remove_image(core: Core, image: Image) -> list[Removal]:
    gone: list[Removal] = []
    for name in (*image.repo_tags, *image.repo_digests) or (image.id,):
        try:
            gone += imaging.remove(core, name, force=False, no_prune=False)
        except (Conflict, NotFound):  # a container came; or the last tag has taken the digest along
            continue
    return gone


def prune_volumes(core: Core, filters: Filters) -> docker.VolumePruneResponse:
    """Remove the anonymous volumes, with `all` the named ones too, that no container uses."""
    check(filters, _VOLUMES)
    everything = truth(filters, "all") is True
    gone, reclaimed = [], 0
    with core.volumes.lock:
        used = {name for container in core.registry for name in container.volumes}
        for volume in core.volumes.all():
            if volume.name in used or not (volume.anonymous or everything) or not labels_pass(filters, volume.labels):
                continue
            reclaimed += tree_bytes(f"{core.dirs.volumes}/{volume.name}/_data")
            core.volumes.remove(volume.name)
            gone.append(volume.name)
    for name in gone:
        core.bus.tell("volume", "destroy", name, {"driver": "local"})
    _tell(core, "volume", reclaimed)
    return docker.VolumePruneResponse(volumes_deleted=tuple(gone) or None, space_reclaimed=reclaimed)


def _tell(core: Core, kind: str, reclaimed: int) -> None:
    core.bus.tell(kind, "prune", "", {"reclaimed": str(reclaimed)})
