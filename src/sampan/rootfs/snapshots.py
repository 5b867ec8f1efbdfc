"""What a container writes to: an upper directory over its image's layers. Nothing is mounted here."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from sampan.errors import Conflict, Failed, Unsupported, doing
from sampan.kernel.trees import copy_tree, remove_tree
from sampan.rootfs import limits, overlay
from sampan.rootfs.host import Cover
from sampan.rootfs.writable import Writable
from sampan.spec.image import Image, Rootfs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.dirs import Dirs

_USUAL = overlay.Metadata()


class Snapshots:
    """The containers' own directories. Called by the server only, from any thread."""

    def __init__(self, dirs: Dirs) -> None:
        self._dirs = dirs
        self._cover = Cover(dirs)
        self._chains: dict[tuple[str, ...], overlay.Chain] = {}
        self._lock = threading.Lock()
        os.makedirs(dirs.containers, mode=0o711, exist_ok=True)
        os.makedirs(dirs.shapes, mode=0o711, exist_ok=True)
        self._writable = Writable(dirs)

    def prepare(self, id: str, image: Image) -> Rootfs:
        """Make the directories of container `id` over `image`. Raises Conflict where they are there already."""
        if image.on_host:
            return self.prepare_step(id, image.diff_ids, host=True)
        return self._prepare(id, self._chain(image))

    def prepare_step(self, id: str, diff_ids: tuple[str, ...], *, host: bool = False) -> Rootfs:
        """Do the same over layers of which there is no image yet.

        With `host` over this machine's own root. overlayfs takes no lower directory that lies inside another one, as
        all layers do inside of "/"; so what the one layer over it has is copied to where the container writes.
        """
        if not host:
            return self._prepare(id, overlay.assemble(self._dirs, diff_ids))
        contents = [self.content(diff_id) for diff_id in diff_ids]
        rootfs = self._prepare(id, self._over_host()._replace(marked=overlay.is_marked(contents)))
        try:
            for content in contents:
                copy_tree(content, rootfs.upperdir)
        except BaseException:
            self.remove(id)
            raise
        return rootfs

    def prepare_directory(self, id: str, path: str, *, overlaid: bool) -> Rootfs:
        """Do the same for a directory of the host: with `overlaid` over it, else it is itself what is written to."""
        if overlaid:
            return self._prepare(id, overlay.Chain((path,), overlay.metadata_of(path), overlay.is_marked((path,))))
        with doing(f"can't prepare container {id[:12]}"):
            os.mkdir(self._dirs.container(id), 0o711)
        return Rootfs(path=path, lowerdirs=(path,))

    def lowerdirs(self, diff_ids: tuple[str, ...], *, host: bool = False) -> tuple[str, ...]:
        """Return the directories, topmost first, which show what these layers make, with `host` over that root.

        These are to be read, and no overlay's with `host`.
        """
        if not host:
            return overlay.assemble(self._dirs, diff_ids).lowerdirs
        return (*map(self.content, reversed(diff_ids)), *self._over_host().lowerdirs)

    def content(self, diff_id: str) -> str:
        """Return the directory of a layer's files."""
        return f"{self._dirs.layer(diff_id)}/diff"

    def _over_host(self) -> overlay.Chain:
        return overlay.Chain((self._cover.refresh(), "/"), overlay.metadata_of("/"), marked=False)

    def _prepare(self, id: str, chain: overlay.Chain) -> Rootfs:
        base = self._dirs.container(id)
        with doing(f"can't prepare container {id[:12]}"):
            try:
                os.mkdir(base, 0o711)
            except FileExistsError:
                if os.path.lexists(f"{base}/upper"):
                    raise Conflict(f"{base}/upper is there already") from None
            try:
                place = self._writable.make(id)
                rootfs = Rootfs(
                    path=f"{base}/rootfs", lowerdirs=chain.lowerdirs, upperdir=f"{place}/upper", workdir=f"{place}/work"
                )
                os.mkdir(rootfs.workdir, 0o700)
                os.mkdir(rootfs.path, 0o755)
                os.mkdir(rootfs.upperdir, 0o755)
                if chain.root != _USUAL:
                    overlay.apply_metadata(rootfs.upperdir, chain.root)
                else:
                    os.chmod(rootfs.upperdir, 0o755)  # whatever the umask is
                if not chain.marked:
                    overlay.mark(rootfs.upperdir)
            except BaseException:
                self._writable.remove(id)
                remove_tree(base)
                raise
        return rootfs

    def limit(self, rootfs: Rootfs, limit_bytes: int) -> None:
        """Let a container that was just prepared write so much. Raises Unsupported where the filesystem can't count."""
        if not rootfs.upperdir:
            raise Unsupported(f"can't limit what is written to {rootfs.path} itself", "run from it with :O")
        limits.set_limit((rootfs.upperdir, rootfs.workdir), limit_bytes)

    def make_ready(self, rootfs: Rootfs) -> None:
        """See to it that its directories are there and right, before each start of a container."""
        if not os.path.isdir(rootfs.lowerdirs[-1]):
            raise Failed(f"what the container runs from is gone: {rootfs.lowerdirs[-1]}")
        if rootfs.upperdir:
            self._writable.check(rootfs.upperdir)
        if rootfs.lowerdirs[0] == self._cover.path:
            self._cover.refresh()

    def root(self, rootfs: Rootfs) -> overlay.Metadata:
        """Return what `prepare` made the root directory as."""
        (*_, lowest) = rootfs.lowerdirs
        if not lowest.startswith((f"{self._dirs.layers}/", f"{self._dirs.shapes}/")):
            return overlay.metadata_of(lowest)
        return overlay.root_of(rootfs.lowerdirs)

    def remove(self, id: str) -> None:
        """Remove all of a container's own directories."""
        with doing(f"can't remove the files of container {id[:12]}"):
            self.discard(id, self._dirs.container(id))

    def discard(self, id: str, directory: str) -> None:
        """Remove a container's own directory, which may have been moved, and what it wrote elsewhere."""
        self._writable.remove(id)
        with limits.lifted(f"{directory}/upper"):
            remove_tree(directory)

    def usage(self, id: str) -> int:
        """Bytes of all files that the container has written or changed."""
        return tree_bytes(f"{self._dirs.container(id)}/upper")

    def sweep(self, in_use: Iterable[str]) -> None:
        """Remove shapes and covers of which no container has a part. Called when nothing else works here."""
        used = set(in_use)
        shapes = f"{self._dirs.shapes}/"
        kept = {path.removeprefix(shapes).partition("/")[0] for path in used if path.startswith(shapes)}
        for name in os.listdir(shapes):
            if name not in kept:
                remove_tree(f"{shapes}{name}")
        if self._cover.path not in used:
            self._cover.remove()
        self._writable.sweep()
        with self._lock:
            self._chains.clear()

    def _chain(self, image: Image) -> overlay.Chain:
        if image.host:
            return self._over_host()
        with self._lock:
            chain = self._chains.get(image.diff_ids)
        if chain is None:
            chain = overlay.assemble(self._dirs, image.diff_ids)
            with self._lock:
                self._chains[image.diff_ids] = chain
        return chain


def tree_bytes(path: str) -> int:
    """Bytes of all regular files below `path`, hard links once; what vanishes meanwhile does not count."""
    total = 0
    pending = [path]
    seen: set[int] = set()
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        if status.st_nlink == 1 or status.st_ino not in seen:
                            seen.add(status.st_ino)
                            total += status.st_size
        except FileNotFoundError:
            continue
    return total
