"""Where what a COPY takes goes: BuildKit's rules of destinations, over the files of the image so far.

The destination's links are followed inside the image's root, also one that its last component is. Directories that are
missing on the way are made; a file goes into a directory that is there, and takes the place of another file, but never
of a directory, nor a directory that of a file. Of a directory that was there the topmost one keeps what it was, those
below it become as the source's.

A layer also has the directories that lead to what is new, as they are: some engines unpack a layer where they can't
see those below it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.build.selection import Chosen
from sampan.errors import InvalidInput
from sampan.image import tar
from sampan.image.extract import split as split_name
from sampan.image.inode import show
from sampan.rootfs.union import follow, join, split

if TYPE_CHECKING:
    from sampan.build.modes import Mode
    from sampan.build.selection import Taken
    from sampan.build.trees import Layers, Tree, Xattrs

_KINDS = {
    stat.S_IFREG: tar.REGULAR,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFIFO: tar.FIFO,
}
_SECOND_NS = 1_000_000_000


class How(NamedTuple):
    """What a step says of all that it makes."""

    verb: str
    owner: tuple[int, int] | None  # --chown
    mode: Mode | None  # --chmod
    newest_ns: int | None
    time_ns: int  # of directories made on the way


class Planned(NamedTuple):
    """A member of the layer to be. The content of a regular file is in a tree, or given."""

    entry: tar.Entry
    tree: Tree | None = None
    chosen: Chosen | None = None
    content: bytes | None = None
    implied: bool = False  # a directory that is so only where the image has none


class Landing:
    """Gathers what a layer gets. `planned` has it, a directory before what is in it."""

    def __init__(self, parent: Layers | None, how: How) -> None:
        self._parent = parent
        self._how = how
        self.planned: dict[str, Planned] = {}
        self._fresh: dict[str, None] = {}
        self._absent: set[str] = set()  # where the image has nothing
        self._hidden: set[str] = set()  # where something else took the place of a directory of the image
        self._files: dict[tuple[int, int], str] = {}  # with several names: where the first one of them went

    def land(self, taken: Taken, destination: str, *, several: bool) -> None:
        """Plan for what one source came to; `several` when there are others beside it."""
        path = self.resolve(destination)
        is_directory = destination.endswith(("/", "/.")) or self.kind(path) == tar.DIRECTORY
        if several and not is_directory and not taken.is_directory:
            raise InvalidInput(
                f"When using {self._how.verb} with more than one source file, the destination must be a directory and "
                "end with a /",
                f"write {destination}/",
            )
        self._files.clear()
        if taken.is_directory:
            self.make_directory(path)
            if path in self.planned and taken.itself is not None:
                self.planned[path].entry.mtime_ns = self._time(taken.itself.status.st_mtime_ns)
            for chosen in taken.below:
                self._take(taken, chosen, join(path, chosen.target))
            return
        if is_directory:
            self.make_directory(path)
            path = join(path, taken.name)
        else:
            self.make_directory(split(path)[0])
        if taken.itself is None:
            mode = self._how.mode.apply(0o644, directory=False) if self._how.mode is not None else 0o644
            entry = self._entry(path, tar.REGULAR, mode, self._how.owner or (0, 0), self._how.time_ns)
            self._put_file(path, Planned(entry, content=taken.content))
        else:
            self._take(taken, taken.itself, path)

    def make_root(self, destination: str) -> str:
        """Make the directory into which an archive is unpacked, of the step's owner, but not of its mode."""
        path = self.resolve(destination)
        self.make_directory(path, self._how._replace(mode=None))
        return path

    def land_member(self, root: str, path: str, entry: tar.Entry) -> Planned:
        """Plan a member of an archive that is unpacked into `root`, out of which nothing leads."""
        parent, name = split(path)
        directory = self.resolve(parent, root)
        self.make_directory(directory, self._how._replace(owner=None, mode=None))
        target = join(directory, name)
        if self.kind(target) == tar.DIRECTORY and entry.kind != tar.DIRECTORY:
            self._forget(target)
        entry.name = os.fsencode(target)
        if self._how.owner is not None:
            entry.uid, entry.gid = self._how.owner
        entry.mtime_ns = self._time(entry.mtime_ns)
        planned = Planned(entry)
        if entry.kind == tar.LINK:
            planned = self._linked(root, entry)
        self.put(target, planned)
        return planned

    def take_planned(self) -> list[tuple[str, Planned]]:
        """Return what was planned since the last time."""
        fresh = [(path, self.planned[path]) for path in self._fresh]
        self._fresh.clear()
        return fresh

    def resolve(self, path: str, root: str = "") -> str:
        """Follow the links in a path, inside `root`; what is missing is as named."""
        found = follow(path, lambda walked: self.link(join(root, walked) if root else walked), refuse_many=True)
        return join(root, found) if root and found else root or found

    def kind(self, path: str) -> bytes | None:
        """Return what is at a path by now, as the kind of a tar's member; None for nothing."""
        if not path:
            return tar.DIRECTORY
        planned = self.planned.get(path)
        if planned is not None:
            return _kind_of_link(planned)
        status = self._below(path)
        return None if status is None else _KINDS.get(stat.S_IFMT(status.st_mode))

    def link(self, path: str) -> str:
        """Return where the link at a path points, "" if there is none."""
        planned = self.planned.get(path)
        if planned is not None:
            return os.fsdecode(planned.entry.link) if planned.entry.kind == tar.SYMLINK else ""
        status = self._below(path)
        if status is None or not stat.S_ISLNK(status.st_mode):
            return ""
        assert self._parent is not None
        return self._parent.link(path)

    def make_directory(self, path: str, how: How | None = None) -> None:
        """See to it that a directory is there, and those above it, and that the layer has them.

        `how` is as which it is made; None: as the step says.
        """
        planned = self.planned.get(path)
        if planned is not None and planned.entry.kind != tar.DIRECTORY:
            raise self._refused(path, "is no directory")
        if planned is not None or not path:
            return
        self.make_directory(split(path)[0], how)
        status = self._below(path)
        implied = False
        if status is None:
            how = how or self._how
            mode = how.mode.of_made_directory() if how.mode is not None else 0o755
            entry = self._entry(path, tar.DIRECTORY, mode, how.owner or (0, 0), how.time_ns)
            implied = self._parent is None and how.owner is None and how.mode is None
        elif stat.S_ISDIR(status.st_mode):
            entry = self._as_it_is(path, status)
        else:
            raise self._refused(path, "is no directory")
        self.put(path, Planned(entry, implied=implied))

    def put(self, path: str, planned: Planned) -> None:
        """Plan a member; one that is planned for the same path already is forgotten."""
        if split(path)[1].startswith(".wh."):
            raise InvalidInput(
                f"/{path} can't be in a layer: names that begin with .wh. are its marks of what is deleted"
            )
        old = self.planned.get(path)
        self.planned[path] = planned
        self._fresh[path] = None
        if old is not None and old.chosen is not None and old.chosen.status.st_nlink > 1:
            self._relink(path, old)

    def _relink(self, path: str, old: Planned) -> None:
        """Have the other names of a file that something else has taken the place of be one file still."""
        name = os.fsencode(path)
        first = b""
        for other, planned in list(self.planned.items()):
            if planned.entry.kind != tar.LINK or planned.entry.link != name:
                continue
            if not first:
                first = planned.entry.name
                entry = msgspec.structs.replace(old.entry, name=first)
                self.planned[other] = Planned(entry, old.tree, old.chosen)
            else:
                planned.entry.link = first

    def _forget(self, path: str) -> None:
        """Forget a directory, in the place of which comes something else."""
        self._hidden.add(path)
        for below in [p for p in self.planned if p.startswith(f"{path}/")]:
            del self.planned[below]
            self._fresh.pop(below, None)

    def _linked(self, root: str, entry: tar.Entry) -> Planned:
        """Return a hard link of an archive's, to what the layer has, or with the content of what the image has."""
        parent, name = split_name(entry.link)
        target = join(self.resolve(os.fsdecode(parent), root), os.fsdecode(name))
        there = self.planned.get(target)
        if there is not None and there.entry.kind != tar.DIRECTORY:
            entry.link = os.fsencode(target)
            return Planned(entry)
        status = self._below(target) if there is None else None
        if status is None or not stat.S_ISREG(status.st_mode):
            raise InvalidInput(f"there is no file {show(entry.link)} that it could be a link to")
        entry.kind, entry.link, entry.size = tar.REGULAR, b"", status.st_size
        return Planned(entry, self._parent, Chosen("", target, status))

    def _take(self, taken: Taken, chosen: Chosen, path: str) -> None:
        tree = taken.tree
        assert tree is not None
        status = chosen.status
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        if kind == tar.DIRECTORY:
            self._merge_directory(tree, chosen, path)
            return
        entry = self._entry_of(tree, chosen, path, kind)
        if status.st_nlink > 1:
            first = self._files.setdefault((status.st_dev, status.st_ino), path)
            if first != path and self._is_still(first, status):
                entry.kind, entry.size, entry.link = tar.LINK, 0, os.fsencode(first)
                self._put_file(path, Planned(entry))
                return
            self._files[status.st_dev, status.st_ino] = path
        self._put_file(path, Planned(entry, tree, chosen))

    def _is_still(self, path: str, status: os.stat_result) -> bool:
        planned = self.planned.get(path)
        return planned is not None and planned.chosen is not None and os.path.samestat(planned.chosen.status, status)

    def _put_file(self, path: str, planned: Planned) -> None:
        if not path or self.kind(path) == tar.DIRECTORY:
            raise self._refused(path, "is a directory, and a file can't take its place")
        self.put(path, planned)

    def _merge_directory(self, tree: Tree, chosen: Chosen, path: str) -> None:
        there = self.kind(path)
        if there not in {None, tar.DIRECTORY}:
            raise self._refused(path, "is no directory, and a directory can't take its place")
        entry = self._entry_of(tree, chosen, path, tar.DIRECTORY)
        if there is not None:
            self.make_directory(path)
            old = self.planned[path].entry
            if chosen.passing:
                old.mode = entry.mode
                return
            entry.xattrs = tuple(sorted({**dict(old.xattrs), **dict(entry.xattrs)}.items()))
        self.put(path, Planned(entry))

    def _entry_of(self, tree: Tree, chosen: Chosen, path: str, kind: bytes) -> tar.Entry:
        status = chosen.status
        mode = stat.S_IMODE(status.st_mode)
        if self._how.mode is not None and kind != tar.SYMLINK:
            mode = self._how.mode.apply(mode, directory=kind == tar.DIRECTORY)
        owner = self._how.owner or ((status.st_uid, status.st_gid) if tree.keeps_owners else (0, 0))
        entry = self._entry(path, kind, mode, owner, status.st_mtime_ns)
        if kind == tar.REGULAR:
            entry.size = status.st_size
        elif kind == tar.SYMLINK:
            entry.link = os.fsencode(tree.link(chosen.path))
        elif kind in {tar.CHARACTER, tar.BLOCK_DEVICE}:
            entry.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        if kind != tar.REGULAR:
            entry.xattrs = encoded(tree.xattrs(chosen.path))
        return entry

    def _as_it_is(self, path: str, status: os.stat_result) -> tar.Entry:
        assert self._parent is not None
        mode = stat.S_IMODE(status.st_mode)
        entry = self._entry(path, tar.DIRECTORY, mode, (status.st_uid, status.st_gid), status.st_mtime_ns)
        entry.xattrs = encoded(self._parent.xattrs(path))
        return entry

    def _entry(self, path: str, kind: bytes, mode: int, owner: tuple[int, int], mtime_ns: int) -> tar.Entry:
        return tar.Entry(os.fsencode(path), kind, mode, *owner, 0, self._time(mtime_ns))

    def _time(self, mtime_ns: int) -> int:
        if self._how.newest_ns is not None:
            mtime_ns = min(mtime_ns, self._how.newest_ns)
        return mtime_ns - mtime_ns % _SECOND_NS

    def _below(self, path: str) -> os.stat_result | None:
        """Return what the image has at a path, if that still shows."""
        if self._parent is None or (
            self._hidden and any(path == hidden or path.startswith(f"{hidden}/") for hidden in self._hidden)
        ):
            return None
        # Most files go where the image has nothing, which looking layer by layer would tell for each of them anew.
        status = None if split(path)[0] in self._absent else self._parent.status(path)
        if status is None:
            self._absent.add(path)
        return status

    def _refused(self, path: str, why: str) -> InvalidInput:
        return InvalidInput(f"can't {self._how.verb} to /{path}: it {why}")


def encoded(xattrs: Xattrs) -> tuple[tuple[bytes, bytes], ...]:
    """Return attributes as a tar's member has them."""
    return tuple((os.fsencode(name), value) for name, value in xattrs) if xattrs else ()


def _kind_of_link(planned: Planned) -> bytes:
    return tar.REGULAR if planned.entry.kind == tar.LINK else planned.entry.kind
