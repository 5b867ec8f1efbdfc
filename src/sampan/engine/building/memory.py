"""Small files that must not get to a disk: secrets, for as long as a RUN may read them."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.errors import doing
from sampan.kernel.mount import mountinfo
from sampan.kernel.trees import remove_tree
from sampan.rootfs.writable import make_base

if TYPE_CHECKING:
    from sampan.dirs import Dirs


def directory(dirs: Dirs, id: str) -> str:
    """Make and return a directory in memory of a step's container: of root alone."""
    base = next((base for base in _bases(dirs) if _is_in_memory(base)), f"{dirs.run}/secrets")
    with doing("can't keep a secret in memory"):
        while True:
            make_base(base)
            with suppress(FileNotFoundError):  # a step that ended has just removed it
                os.mkdir(f"{base}/{id}", 0o700)
                return f"{base}/{id}"


def remove(directory: str) -> None:
    """Remove such a directory, and what it was made in if there is no other."""
    remove_tree(directory)
    with suppress(OSError):
        os.rmdir(os.path.dirname(directory))


def sweep(dirs: Dirs) -> None:
    """Remove what a killed server has left."""
    for base in _bases(dirs):
        remove_tree(base)


def _bases(dirs: Dirs) -> tuple[str, ...]:
    """RUN is in memory for the default instance only."""
    return f"{dirs.run}/secrets", f"/dev/shm/sampan-{zlib.crc32(os.fsencode(dirs.root)):08x}-secrets"


def _is_in_memory(path: str) -> bool:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    device = os.stat(path).st_dev
    return any(mount.fstype in ("tmpfs", "ramfs") and os.makedev(*mount.device) == device for mount in mountinfo())
