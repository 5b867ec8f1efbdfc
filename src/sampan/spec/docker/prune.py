"""Bodies about prunes: what each took away, and (sampan's own) what one would take away."""

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


class PruneItem(Body, frozen=True, kw_only=True):
    """What a prune would do with one object: `kept` says why it stays, "" that it goes.

    `size` are the bytes that it takes, `freed` those that its going gives back, or would: a layer that others have too
    goes with the last of them. `instead` is the command that would remove it, where one does.
    """

    kind: str = always("")  # "container", "network", "volume", "image" or "build-cache"
    id: str = always("")
    name: str = always("")
    size: int = always(0)
    freed: int = always(0)
    kept: str = always("")
    instead: str = always("")


class PrunePlan(Body, frozen=True, kw_only=True):
    """All that a prune would look at, in the order in which it would; and the bytes that it would give back."""

    items: tuple[PruneItem, ...] = always(())
    space_reclaimed: int = always(0)
