"""What a container has changed: its upper directory against the layers below, in Docker's words.

`changes` gives what `docker diff` prints, and with it what a layer of the changes consists of: the two can't differ,
because they are one list. Docker's rules: a directory is changed if something in it is, or its owner or mode; not if
only its time is. A file is as it was if owner, mode, size, time and attributes are (and here its content too: then it
was only opened for writing). What was deleted is named once, without what was in it.

A container's mount points are made in its upper directory where its image has none. Those of the engine's own mounts
(/proc, /etc/hosts, …) are no changes of the container's, nor is the empty file that marks it as a container.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.rootfs.overlay import MARKER, Metadata
from sampan.rootfs.union import DIRECTORY, OTHER, WHITEOUT, Shown, Stack, join, split

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

ADDED, CHANGED, DELETED, SAME = "A", "C", "D", ""

_NUMBERS = {CHANGED: 0, ADDED: 1, DELETED: 2}  # of the API: container.ChangeType
_UPPER = 0
_PIECE = 1 << 18


class Change(NamedTuple):
    """One path, told when it is known; a directory before what is in it, but maybe once more as CHANGED."""

    kind: str  # as shown: ADDED, CHANGED, DELETED; SAME is not shown
    path: str  # without slashes at the ends; the root's is ""
    status: os.stat_result | None = None  # None: there is nothing any more
    member: bool = True  # whether a layer of the changes has it
    anew: bool = False  # a directory that hides one below it


def changes(stack: Stack, root: Metadata, own: Collection[str] = ()) -> Iterator[Change]:
    """Compare the topmost layer of the stack with the others, names in order.

    `root` is what the root directory was made as, `own` the paths of the engine's own mount points.
    """
    return _Walk(stack, root, own).run()


def report(layers: Sequence[str], root: Metadata, own: Collection[str], fd: int) -> None:
    """Write the changes to `fd` as the API has them: a JSON array. Names that are no UTF-8 get replacement marks."""
    with Stack(layers) as stack, open(fd, "wb", closefd=False) as file:
        file.write(b"[")
        separator = b""
        for change in changes(stack, root, own):
            if change.kind != SAME:
                path = os.fsencode(f"/{change.path}").decode(errors="replace")
                file.write(separator + msgspec.json.encode({"Path": path, "Kind": _NUMBERS[change.kind]}))
                separator = b","
        file.write(b"]\n")


class _Directory:
    """A directory of the upper layer while it is read."""

    __slots__ = ("change", "hidden", "names", "new", "old", "shown", "written")

    def __init__(self, change: Change, new: dict[str, str], old: dict[str, Shown], *, hidden: bool) -> None:
        self.change = change
        self.new = new
        self.old = old  # what shows in the layers below, or showed
        self.hidden = hidden  # nothing of the layers below shows: all that is here must be in the layer
        self.names = iter(sorted({*new, *old} if hidden else new))
        self.shown = change.kind != SAME
        self.written = change.member


class _Walk:
    def __init__(self, stack: Stack, root: Metadata, own: Collection[str]) -> None:
        self._stack = stack
        self._root = root
        below = stack.all[1:]
        self._own = {MARKER, *(stack.real(path, below) for path in own)}
        self._above_own = {parent for path in self._own for parent in _parents(path)}
        self._open: list[_Directory] = []

    def run(self) -> Iterator[Change]:
        status = self._stack.status(_UPPER, "")
        assert status is not None
        below = self._stack.all[1:]
        same = _metadata(status, self._stack.xattrs(_UPPER, "")) == self._root
        change = Change(CHANGED, "", status)
        if not same:  # Docker neither shows it nor has it in its layers; what is changed in it does not count
            yield change
        self._enter(change, Shown(DIRECTORY, below) if below else None, hidden=False)
        while self._open:
            directory = self._open[-1]
            name = next(directory.names, None)
            if name is None:
                self._open.pop()
            else:
                yield from self._look(directory, name)

    def _look(self, directory: _Directory, name: str) -> Iterator[Change]:
        path = join(directory.change.path, name)
        old = directory.old.get(name)
        kind = directory.new.get(name, WHITEOUT)
        if kind == WHITEOUT:
            if old is not None:
                yield from self._tell(Change(DELETED, path, member=not directory.hidden))
            return
        status = self._stack.status(_UPPER, path)
        if status is None:
            return
        is_directory = stat.S_ISDIR(status.st_mode)
        if old is None:
            change = self._added(path, status)
        elif is_directory:
            change = self._directory(path, status, old, hidden=directory.hidden)
        else:
            change = self._file(path, status, old, hidden=directory.hidden)
        if directory.shown and directory.written:  # and so is all above it
            if change.kind != SAME or change.member:
                yield change
        elif change.kind != SAME or change.member:
            yield from self._tell(change)
        if is_directory:
            self._enter(change, old, hidden=directory.hidden or change.anew)

    def _tell(self, change: Change) -> Iterator[Change]:
        """Give a change, and before it the directories that are changed because it is."""
        for directory in self._open:
            shows = change.kind != SAME and not directory.shown
            writes = change.member and not directory.written
            if shows or writes:
                yield directory.change._replace(kind=CHANGED if shows else SAME, member=writes)
                directory.shown |= shows
                directory.written |= writes
        yield change

    def _enter(self, change: Change, old: Shown | None, *, hidden: bool) -> None:
        path = change.path
        below: dict[str, Shown] = {}
        if old is not None and old.kind == DIRECTORY:
            below = self._stack.names(path, self._stack.merging(path, old.layers))
        self._open.append(_Directory(change, self._stack.entries(_UPPER, path), below, hidden=hidden))

    def _added(self, path: str, status: os.stat_result) -> Change:
        plain = (status.st_uid, status.st_gid) == (0, 0)
        mount_point = path in self._own and (stat.S_ISDIR(status.st_mode) or _is_empty(status))
        if plain and (mount_point or (path in self._above_own and status.st_mode == stat.S_IFDIR | 0o755)):
            return Change(SAME, path, status, member=False)
        return Change(ADDED, path, status)

    def _directory(self, path: str, status: os.stat_result, old: Shown, *, hidden: bool) -> Change:
        if old.kind != DIRECTORY:
            return Change(CHANGED, path, status)
        anew = not hidden and self._stack.opacity(_UPPER, path) == b"y"
        before = self._stack.status(old.layers[0], path)
        changed = (
            before is None
            or _described(status) != _described(before)
            or self._stack.xattrs(_UPPER, path) != self._stack.xattrs(old.layers[0], path)
        )
        return Change(CHANGED if changed else SAME, path, status, member=changed or anew or hidden, anew=anew)

    def _file(self, path: str, status: os.stat_result, old: Shown, *, hidden: bool) -> Change:
        before = self._stack.status(old.layers[0], path) if old.kind == OTHER else None
        if before is None or not self._is_same(path, status, before, old.layers[0]):
            return Change(CHANGED, path, status)
        # One of several names of a file must be where the others are.
        linked = status.st_nlink > 1 or before.st_nlink > 1
        return Change(SAME, path, status, member=linked or hidden)

    def _is_same(self, path: str, status: os.stat_result, before: os.stat_result, layer: int) -> bool:
        if (
            _described(status) != _described(before)
            or (status.st_size, status.st_mtime_ns) != (before.st_size, before.st_mtime_ns)
            or self._stack.xattrs(_UPPER, path) != self._stack.xattrs(layer, path)
        ):
            return False
        if stat.S_ISLNK(status.st_mode):
            return self._stack.link(_UPPER, path) == self._stack.link(layer, path)
        return not stat.S_ISREG(status.st_mode) or self._equal_content(path, layer)

    def _equal_content(self, path: str, layer: int) -> bool:
        ours, theirs = self._stack.open(_UPPER, path), self._stack.open(layer, path)
        try:
            if ours is None or theirs is None:
                return False
            while True:
                piece = os.read(ours[0], _PIECE)
                if piece != os.read(theirs[0], _PIECE):
                    return False
                if not piece:
                    return True
        finally:
            for opened in (ours, theirs):
                if opened is not None:
                    os.close(opened[0])


def _described(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_rdev


def _metadata(status: os.stat_result, xattrs: tuple[tuple[str, bytes], ...]) -> Metadata:
    return Metadata(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, xattrs)


def _is_empty(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _parents(path: str) -> Iterator[str]:
    while path:
        path = split(path)[0]
        yield path
