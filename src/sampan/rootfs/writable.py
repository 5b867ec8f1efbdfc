"""Where containers write, if that can't be in the store: overlayfs takes no upper directory that lies on overlayfs.

The kernel refuses it ("not supported as upperdir", Linux commit 76bc8e2843b6). A store is on overlayfs where sampan
runs in a container without a volume for it. Its layers can be there; what containers write goes to RUN, else to
/dev/shm: into memory, usually, and with the machine's next start it is gone.
"""

from __future__ import annotations

import os
import stat
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.errors import Failed, Unsupported
from sampan.kernel.mount import mountinfo
from sampan.kernel.trees import remove_tree

if TYPE_CHECKING:
    from sampan.dirs import Dirs


def is_on_overlay(path: str) -> bool:
    """Tell whether `path`, or the directory that it would be made in, is on overlayfs."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    device = os.stat(path).st_dev
    return any(mount.fstype == "overlay" and os.makedev(*mount.device) == device for mount in mountinfo())


class Writable:
    """Finds the place for containers' upper and work directories."""

    def __init__(self, dirs: Dirs) -> None:
        self._dirs = dirs
        self._elsewhere = is_on_overlay(dirs.containers)
        self._bases = (f"{dirs.run}/writable", f"/dev/shm/sampan-{zlib.crc32(os.fsencode(dirs.root)):08x}-writable")

    def make(self, id: str) -> str:
        """Make and return the directory for what container `id` writes: its own one, or one elsewhere."""
        if not self._elsewhere:
            return self._dirs.container(id)
        base = next((base for base in self._bases if not is_on_overlay(base)), None)
        if base is None:
            raise Unsupported(
                f"{self._dirs.root} is on overlayfs, and so is all else that a container could write to",
                "mount a volume at it, or a tmpfs at /dev/shm; or choose another place: --root, SAMPAN_ROOT",
            )
        make_base(base)
        os.mkdir(f"{base}/{id}", 0o711)
        for name in ("upper", "work"):
            os.symlink(f"{base}/{id}/{name}", f"{self._dirs.container(id)}/{name}")
        return f"{base}/{id}"

    def check(self, upperdir: str) -> None:
        """Raise Failed where a container's upper directory is gone."""
        if not os.path.isdir(upperdir):
            raise Failed(
                f"what the container has written is gone: {upperdir}",
                f"{self._dirs.root} is on overlayfs, so it was kept in memory" if self._elsewhere else "",
            )

    def remove(self, id: str) -> None:
        """Remove what container `id` has written elsewhere."""
        for base in self._bases if self._elsewhere else ():
            remove_tree(f"{base}/{id}")

    def sweep(self) -> None:
        """Remove what containers have written elsewhere that are no more."""
        for base in self._bases if self._elsewhere else ():
            for id in os.listdir(base) if os.path.isdir(base) else ():
                if not os.path.exists(self._dirs.container(id)):
                    remove_tree(f"{base}/{id}")
            with suppress(OSError):  # not there, or in use
                os.rmdir(base)


def make_base(base: str) -> None:
    """Make the directory, which must be nobody else's: anyone may make one in /dev/shm."""
    os.makedirs(base, mode=0o710, exist_ok=True)
    status = os.lstat(base)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise Unsupported(f"{base} is somebody else's", f"remove it: rm -r {base}")
