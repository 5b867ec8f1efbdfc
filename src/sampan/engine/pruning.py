"""Prunes: remove what nothing uses, of one kind each, and tell how much that gave back. What goes, `keeping` says.

What is in use when its turn comes, because somebody was faster, stays without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine import imaging, keeping, networks, removing
from sampan.engine.unpacking import Unpacker
from sampan.errors import Conflict, NotFound, NotPermitted
from sampan.rootfs.snapshots import tree_bytes
from sampan.spec import docker

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.requests import Filters
    from sampan.spec.image import Image, Removal


def prune_containers(core: Core, filters: Filters) -> docker.ContainerPruneResponse:
    """Remove the containers that do not run, created until then and with these labels."""
    gone, reclaimed = [], 0
    for container, stays in list(keeping.containers(core, filters)):
        if stays:
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
    gone: list[Removal] = []
    for image, stays in list(keeping.images(core, filters)):
        if not stays:
            gone += _remove_image(core, image)
    reclaimed = sum(one.size for one in gone)
    if not filters.keys() - {"dangling"}:
        reclaimed += Unpacker(core).give_up()  # layers of pulls that were interrupted are nobody's image
    _tell(core, "image", reclaimed)
    items = tuple(imaging.response_item(one) for one in gone)
    return docker.ImagePruneResponse(images_deleted=items or None, space_reclaimed=reclaimed)


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
    gone, reclaimed = [], 0
    with core.volumes.lock:
        for volume, stays in list(keeping.volumes(core, filters)):
            if stays:
                continue
            reclaimed += tree_bytes(core.volumes.directory(volume.name))
            core.volumes.remove(volume.name)
            gone.append(volume.name)
    for name in gone:
        core.bus.tell("volume", "destroy", name, {"driver": "local"})
    _tell(core, "volume", reclaimed)
    return docker.VolumePruneResponse(volumes_deleted=tuple(gone) or None, space_reclaimed=reclaimed)


def prune_networks(core: Core, filters: Filters) -> docker.NetworkPruneResponse:
    """Remove the networks that no container is on."""
    gone = []
    for network, stays in list(keeping.networks(core, filters)):
        if stays:
            continue
        try:
            networks.remove(core, network.id)
        except (NotFound, NotPermitted):  # somebody was faster
            continue
        gone.append(network.name)
    _tell(core, "network", 0)
    return docker.NetworkPruneResponse(networks_deleted=tuple(gone) or None)


def _tell(core: Core, kind: str, reclaimed: int) -> None:
    core.bus.tell(kind, "prune", "", {"reclaimed": str(reclaimed)})
