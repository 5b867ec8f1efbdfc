"""Images that are mounted in a container beside its own: `--mount type=image`. Nothing is copied.

They are read-only, or with `rw` below an overlay that each start empties: overlay_mounts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.errors import InvalidInput, NotFound, Unsupported, doing
from sampan.rootfs.union import directories_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.engine.core import Core
    from sampan.engine.mounts import Wanted


def resolved(core: Core, mounts: Iterable[Wanted]) -> tuple[Wanted, ...]:
    """Return the mounts with the ids of their images. From when a container has them, these images stay."""
    return tuple(_resolved(core, mount) if mount.type == "image" and not mount.source else mount for mount in mounts)


def _resolved(core: Core, mount: Wanted) -> Wanted:
    try:
        image = core.images.resolve(mount.name)
    except NotFound as e:  # as a 404 it would have a docker client pull the container's image
        raise InvalidInput(e.message, f"bring it first: sampan pull {mount.name}") from None
    if image.host or image.on_host:
        raise Unsupported(
            f"can't mount image {mount.name}: it is this machine's own root",
            f"bind what you need of it: -v DIRECTORY:{mount.target}:ro",
        )
    return replace(mount, source=image.id)


def placed(core: Core, mounts: Iterable[Wanted]) -> tuple[Wanted, ...]:
    """Return the mounts with the directories that show their images' files."""
    return tuple(_placed(core, mount) if mount.type == "image" and not mount.layers else mount for mount in mounts)


def _placed(core: Core, mount: Wanted) -> Wanted:
    with doing(f"can't mount image {mount.name} at {mount.target}"):
        layers = core.snapshots.lowerdirs(core.images.resolve(mount.source).diff_ids)
        if mount.subpath:
            layers = directories_at(layers, mount.subpath)
            if mount.overlay and not os.path.isdir(layers[0]):
                raise InvalidInput(f"{mount.subpath} is no directory, and so is read-only", "leave rw out")
    return replace(mount, layers=layers)
