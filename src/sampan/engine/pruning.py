"""Prunes: remove what nothing uses, of one kind each, and tell how much that gave back. What goes, `keeping` says.

What is in use when its turn comes, because somebody was faster, stays without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine import build_cache, imaging, keeping, networks, prune_plan, removing
from sampan.engine.unpacking import Unpacker
from sampan.errors import Conflict, NotFound, NotPermitted
from sampan.rootfs.snapshots import tree_bytes
from sampan.spec import docker

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.requests import BuildPruneQuery, Filters, PrunePlanQuery
    from sampan.spec.image import Image, Removal


class Prunes:
    """Those of one instance."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def containers(self, filters: Filters) -> docker.ContainerPruneResponse:
        """Remove the containers that do not run, created until then and with these labels."""
        core = self._core
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
        self._tell("container", reclaimed)
        return docker.ContainerPruneResponse(containers_deleted=tuple(gone) or None, space_reclaimed=reclaimed)

    def images(self, filters: Filters) -> docker.ImagePruneResponse:
        """Remove the images without a tag, with `dangling` false all, that no container uses, and no list names."""
        core = self._core
        gone: list[Removal] = []
        for image, stays in list(keeping.images(core, filters)):
            if not stays:
                gone += _remove_image(core, image)
        reclaimed = sum(one.size for one in gone)
        if not filters.keys() - {"dangling"}:
            reclaimed += Unpacker(core).give_up()  # layers of pulls that were interrupted are nobody's image
        self._tell("image", reclaimed)
        items = tuple(imaging.response_item(one) for one in gone)
        return docker.ImagePruneResponse(images_deleted=items or None, space_reclaimed=reclaimed)

    def volumes(self, filters: Filters) -> docker.VolumePruneResponse:
        """Remove the anonymous volumes, with `all` the named ones too, that no container uses."""
        core = self._core
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
        self._tell("volume", reclaimed)
        return docker.VolumePruneResponse(volumes_deleted=tuple(gone) or None, space_reclaimed=reclaimed)

    def networks(self, filters: Filters) -> docker.NetworkPruneResponse:
        """Remove the networks that no container is on."""
        core = self._core
        gone = []
        for network, stays in list(keeping.networks(core, filters)):
            if stays:
                continue
            try:
                networks.remove(core, network.id)
            except (NotFound, NotPermitted):  # somebody was faster
                continue
            gone.append(network.name)
        self._tell("network", 0)
        return docker.NetworkPruneResponse(networks_deleted=tuple(gone) or None)

    def build_cache(self, query: BuildPruneQuery) -> docker.BuildPruneResponse:
        """Remove what builds keep and nobody works with."""
        return build_cache.prune(self._core, query)

    def plan(self, query: PrunePlanQuery) -> docker.PrunePlan:
        """Return what these would remove, what they would not and why."""
        return prune_plan.plan(self._core, query)

    def _tell(self, kind: str, reclaimed: int) -> None:
        self._core.bus.tell(kind, "prune", "", {"reclaimed": str(reclaimed)})


def _remove_image(core: Core, image: Image) -> list[Removal]:
    gone: list[Removal] = []
    for name in (*image.repo_tags, *image.repo_digests) or (image.id,):
        try:
            gone += imaging.remove(core, name, force=False, no_prune=False)
        except (Conflict, NotFound):  # a container came; or the last tag has taken the digest along
            continue
    return gone
