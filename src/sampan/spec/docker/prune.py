"""Bodies about prunes: what each took away."""

from __future__ import annotations

from sampan.spec.docker.body import Body, always
from sampan.spec.docker.image import ImageDeleteResponseItem


class ContainerPruneResponse(Body, frozen=True, kw_only=True):
    """What a prune of containers took away."""

    containers_deleted: tuple[str, ...] | None = always(None)
    space_reclaimed: int = always(0)


class ImagePruneResponse(Body, frozen=True, kw_only=True):
    """What a prune of images took away."""

    images_deleted: tuple[ImageDeleteResponseItem, ...] | None = always(None)
    space_reclaimed: int = always(0)


class VolumePruneResponse(Body, frozen=True, kw_only=True):
    """What a prune of volumes took away."""

    volumes_deleted: tuple[str, ...] | None = always(None)
    space_reclaimed: int = always(0)


class NetworkPruneResponse(Body, frozen=True, kw_only=True):
    """What a prune of networks took away."""

    networks_deleted: tuple[str, ...] | None = always(None)


class BuildPruneResponse(Body, frozen=True, kw_only=True):
    """What a prune of the build cache took away."""

    caches_deleted: tuple[str, ...] | None = always(None)
    space_reclaimed: int = always(0)
