"""`-v SOURCE:TARGET:O`, `--mount type=image,rw`: what is under an overlay, so that what is written does not reach it.

It goes to a directory of the container's, which every start empties, or, with `upperdir=` and `workdir=`, to one of the
host's, which is kept.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.errors import InvalidInput, Unsupported, doing
from sampan.kernel.trees import remove_tree
from sampan.spec.runtime import Mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.engine.mounts import Wanted
    from sampan.spec.image import Rootfs

_OWN = "overlays"


def check(mounts: Iterable[Wanted]) -> None:
    """Raise InvalidInput where an overlay can't be, before anything is made."""
    for mount in mounts:
        if not mount.overlay:
            continue
        if mount.filesystem:
            raise Unsupported(f"can't overlay volume {mount.name}: it is of type {mount.filesystem}")
        needed = [mount.source] if mount.type == "bind" else []
        for path in (*needed, *filter(None, (mount.upperdir, mount.workdir))):
            if os.path.lexists(path) and not os.path.isdir(path):
                raise InvalidInput(f"can't overlay {mount.target}: {path} is not a directory")
            if not os.path.isdir(path):
                raise InvalidInput(
                    f"can't overlay {mount.target}: no such directory: {path}", "an overlay makes none: mkdir it"
                )


def placed(mounts: Sequence[Wanted], rootfs: Rootfs, own: str) -> tuple[Wanted, ...]:
    """Return the mounts with the directories that take what is written: beside what the container itself writes."""
    base = os.path.dirname(rootfs.upperdir) if rootfs.upperdir else own
    places = (f"{base}/{_OWN}/{number}" for number in range(len(mounts)))
    return tuple(
        replace(mount, upperdir=f"{place}/upper", workdir=f"{place}/work") if mount.overlay == "temporary" else mount
        for mount, place in zip(mounts, places, strict=True)
    )


def make(mounts: Iterable[Wanted]) -> None:
    """Empty the directories of the container's own, and give them the attributes of what they lie over."""
    for mount in mounts:
        if mount.overlay != "temporary":
            continue
        with doing(f"can't mount {mount.target}"):
            remove_tree(os.path.dirname(mount.upperdir))
            os.makedirs(mount.workdir, 0o700)
            os.mkdir(mount.upperdir, 0o700)
            below = os.stat(_lower(mount)[0])
            os.chown(mount.upperdir, below.st_uid, below.st_gid)
            os.chmod(mount.upperdir, stat.S_IMODE(below.st_mode))


def _lower(mount: Wanted) -> tuple[str, ...]:
    return mount.layers or (mount.source,)


def to_oci(mount: Wanted, *, has_user: bool) -> Mount:
    """Return the overlay."""
    if has_user and not mount.layers:
        raise Unsupported(
            f"can't overlay {mount.target} in a user namespace: what lies below has the host's owners",
            f"bind it with owners mapped: -v {mount.source}:{mount.target}:idmap",
        )
    lower = (f"lowerdir+={directory}" for directory in _lower(mount))
    options = (*lower, f"upperdir={mount.upperdir}", f"workdir={mount.workdir}")
    readonly = ("ro",) if mount.readonly else ()
    return Mount(destination=mount.target, type="overlay", source="overlay", options=(*options, *readonly))
