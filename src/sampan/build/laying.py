"""Write the layer of a COPY or ADD: what it takes, where it goes, and the layer's files and tar in one pass."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from sampan.build import archives, owners
from sampan.build.contents import digest_of
from sampan.build.landing import How, Landing, encoded
from sampan.build.manifest import Digests, Manifest, combined, describe
from sampan.build.modes import Mode
from sampan.build.selection import Trees, take
from sampan.build.trees import Layers
from sampan.errors import InvalidInput, SampanError, doing
from sampan.image import tar
from sampan.image.compose import Composer
from sampan.image.inode import show
from sampan.image.small_files import LARGEST
from sampan.kernel.trees import remove_tree

if TYPE_CHECKING:
    from sampan.build.jobs import Lay
    from sampan.build.landing import Planned
    from sampan.build.selection import Chosen, Taken
    from sampan.build.trees import Tree
    from sampan.spec.image import LayerResult

_FEW = 64
"""Files, which one process makes as quickly as three."""


class Laid(NamedTuple):
    """A layer that was written, and the digest of what was taken for it: of the files as they were read."""

    layer: LayerResult
    digest: str


def lay(job: Lay) -> Laid:
    """Write the layer. What fails leaves no `target`."""
    if not job.destination.startswith("/"):
        raise InvalidInput(f"can't {job.verb} to {job.destination}: the destination is not absolute")
    try:
        with Trees() as trees, Digests(job.memory) as digests:
            taken = take(job.items, trees, job.verb)
            parent = Layers(job.parent, "the image") if job.parent else None
            try:
                with Composer(job.target, few=sum(len(one.below) + 1 for one in taken) <= _FEW) as composer:
                    return _Laying(job, composer, parent, digests).run(taken)
            finally:
                if parent is not None:
                    parent.close()
    except BaseException:
        remove_tree(job.target)
        raise


class _Laying:
    """The layer that is being written."""

    def __init__(self, job: Lay, composer: Composer, parent: Layers | None, digests: Digests) -> None:
        self._job = job
        self._composer = composer
        self._digests = digests
        self._read: dict[tuple[int, str], bytes] = {}  # digests of the contents that were written
        self._replacing = False  # something may have to replace what is written already
        how = How(
            verb=job.verb,
            owner=owners.look_up(job.owner, parent) if job.owner else None,
            mode=Mode(job.mode) if job.mode else None,
            newest_ns=job.newest_ns,
            time_ns=job.time_ns,
        )
        self._landing = Landing(None if job.link else parent, how)

    def run(self, all_taken: list[Taken]) -> Laid:
        """Write it."""
        several = len(all_taken) > 1
        unpacked = [taken.unpack and _is_archive(taken) for taken in all_taken]
        self._replacing = any(unpacked)
        for taken, is_archive in zip(all_taken, unpacked, strict=True):
            if is_archive:
                self._write_planned()
                self._unpack(taken)
            else:
                self._landing.land(taken, self._job.destination, several=several)
        if not self._job.items:
            self._landing.make_directory(self._landing.resolve(self._job.destination))
        self._write_planned()
        return Laid(self._composer.finish(), self._digest(all_taken))

    def _unpack(self, taken: Taken) -> None:
        """Write an archive's members below the destination."""
        assert taken.tree is not None
        assert taken.itself is not None
        landing = self._landing
        root = landing.make_root(self._job.destination)
        fd = taken.tree.open(taken.itself.path)
        try:
            archive = archives.reader(fd)
            while (entry := archive.next_entry()) is not None:
                path = archives.path_of(entry.name)
                if not path:
                    continue
                with doing(f"can't unpack {show(entry.name)[:300]}"):
                    planned = landing.land_member(root, path, entry)
                    self._write_planned(but=planned)
                    self._add_member(planned, archive)
        finally:
            os.close(fd)

    def _add_member(self, planned: Planned, archive: tar.Reader) -> None:
        if planned.entry.kind == tar.REGULAR and planned.tree is None:
            self._composer.add_pieces(planned.entry, archives.pieces_of(planned.entry, archive))
        else:
            self._add(planned)

    def _write_planned(self, but: Planned | None = None) -> None:
        """Write what is planned and not written yet, all `but` one."""
        for path, planned in self._landing.take_planned():
            if planned is but:
                continue
            try:
                self._add(planned)
            except (OSError, SampanError):
                with doing(f"can't {self._job.verb} /{path}"[:300]):
                    raise

    def _add(self, planned: Planned) -> None:
        entry = planned.entry
        if planned.content is not None:
            entry.size = len(planned.content)
            self._add_content(entry, planned.content)
        elif planned.implied:
            self._composer.add_directory(entry)
        elif planned.tree is None or entry.kind != tar.REGULAR:
            self._composer.add(entry)
        else:
            assert planned.chosen is not None
            self._add_file(entry, planned.tree, planned.chosen)

    def _add_content(self, entry: tar.Entry, content: bytes) -> None:
        if self._replacing:
            self._composer.add_pieces(entry, (content,))
        else:
            self._composer.add_content(entry, content)

    def _add_file(self, entry: tar.Entry, tree: Tree, chosen: Chosen) -> None:
        """Write a file, and note the digest of what was read: that is what the layer has."""
        fd = tree.open(chosen.path)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInput("it is no regular file any more")
            entry.size = status.st_size
            xattrs = tree.xattrs(chosen.path, fd)
            entry.xattrs = encoded(xattrs)
            contents = self._digests.of(tree)
            digest = contents.get(status)
            has_holes = status.st_blocks * 512 < status.st_size
            if status.st_size <= LARGEST and not has_holes:
                content = os.pread(fd, status.st_size, 0)
                content += bytes(status.st_size - len(content))
                plain = hashlib.sha256(content).digest() if digest is None else b""
                self._add_content(entry, content)
            else:
                plain = digest_of(fd, status.st_size) if digest is None else b""
                self._composer.add(entry, fd, has_holes=has_holes or self._replacing)
            if digest is None:
                digest = combined(plain, xattrs)
                if os.fstat(fd).st_ctime_ns == status.st_ctime_ns:
                    contents.put(status, digest)
            self._read[id(tree), chosen.path] = digest
        finally:
            os.close(fd)

    def _digest(self, all_taken: list[Taken]) -> str:
        manifest = Manifest()
        for taken in all_taken:
            manifest.begin(taken)
            for chosen in () if taken.identity else taken.chosen:
                assert taken.tree is not None
                digest = self._read.get((id(taken.tree), chosen.path))
                describe(manifest, taken.tree, chosen, self._digests, digest)
        manifest.tell(self._job.selections)
        return manifest.digest


def _is_archive(taken: Taken) -> bool:
    if taken.tree is None or taken.itself is None or not stat.S_ISREG(taken.itself.status.st_mode):
        return False
    fd = taken.tree.open(taken.itself.path)
    try:
        return archives.is_archive(fd)
    finally:
        os.close(fd)
