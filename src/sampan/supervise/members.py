"""Files of a container as members of an archive or a layer: where what rootfs reads meets what image writes."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import InvalidInput
from sampan.image import tar
from sampan.image.extract import OPAQUE_MARK, WHITEOUT_PREFIX
from sampan.rootfs.diff import CHANGED, changes
from sampan.rootfs.overlay import Metadata
from sampan.rootfs.union import DIRECTORY, WHITEOUT, join, split

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sampan.rootfs.union import Stack, Xattrs

_KINDS = {
    stat.S_IFREG: tar.REGULAR,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFIFO: tar.FIFO,
}
"""A socket is no member of an archive, as in Docker: it means nothing without who listens."""


class Member(NamedTuple):
    """One member. `source` has the content of a regular file, and is closed when the next member is asked for."""

    entry: tar.Entry
    source: int | None = None
    has_holes: bool = False


class _Top:
    """What some layers have at a path, topmost first. `ended`: one of them hides what is below it."""

    __slots__ = ("ended", "kinds", "layers")

    def __init__(self, kinds: list[str], layers: list[int]) -> None:
        self.kinds = kinds
        self.layers = layers
        self.ended = False


class Members:
    """Makes members of the files of a stack. Times later than `newest_ns` are told as that."""

    def __init__(self, stack: Stack, newest_ns: int | None = None) -> None:
        self._stack = stack
        self._newest_ns = newest_ns
        self._names: dict[tuple[int, int], bytes] = {}  # of files with several: device and inode → the first one told

    def of_changes(self, root: Metadata, own: Collection[str]) -> Iterator[Member]:
        """Give what a layer of the topmost layer's changes has, as `rootfs.diff` tells them."""
        for change in changes(self._stack, root, own):
            if not change.member:
                continue
            if split(change.path)[1].startswith(".wh."):
                raise InvalidInput(
                    f"/{change.path} can't be in a layer: names that begin with .wh. are its marks of what is deleted",
                    "remove or rename it in the container",
                )
            if change.status is None or stat.S_ISSOCK(change.status.st_mode):
                if change.status is None or change.kind == CHANGED:
                    yield Member(_mark(change.path, WHITEOUT_PREFIX))
                continue
            member = self._member(change.path, 0, change.status)
            if member is not None:
                yield from _closed(member)
            if change.anew:
                yield Member(_mark(join(change.path, ""), OPAQUE_MARK))

    def of_top(self, count: int) -> Iterator[Member]:
        """Give what one layer in the place of the `count` topmost ones has; the root itself is left out."""
        yield from self._of_top("", self._stack.all[:count], self._stack.all[count:])

    def _of_top(self, path: str, layers: Sequence[int], below: Sequence[int]) -> Iterator[Member]:
        """`layers` have part in a directory; `below` are those whose files it shows, too, none if it is opaque."""
        for name, found in sorted(self._tops(path, layers).items()):
            inside = join(path, name)
            if not found.kinds or found.kinds[0] == WHITEOUT:
                if below and self._stack.find(inside, below) is not None:
                    yield Member(_mark(inside, WHITEOUT_PREFIX))
                continue
            status = self._stack.status(found.layers[0], inside)
            member = self._member(inside, found.layers[0], status) if status is not None else None
            if member is None:
                continue
            yield from _closed(member)
            if found.kinds[0] != DIRECTORY:
                continue
            parts = self._stack.merging(inside, found.layers)
            hides = found.ended or any(self._stack.opacity(layer, inside) == b"y" for layer in parts)
            if hides and below:
                yield Member(_mark(join(inside, ""), OPAQUE_MARK))
            yield from self._of_top(inside, parts, () if hides else below)

    def _tops(self, path: str, layers: Sequence[int]) -> dict[str, _Top]:
        """Return what is at each name of a directory: its kinds and layers, down to what hides those below."""
        found: dict[str, _Top] = {}
        for layer in layers:
            for name, kind in self._stack.entries(layer, path).items():
                top = found.setdefault(name, _Top([], []))
                if not top.ended and (kind == DIRECTORY or not top.kinds):
                    top.kinds.append(kind)
                    top.layers.append(layer)
                top.ended = top.ended or kind != DIRECTORY
        return found

    def of_all(self) -> Iterator[Member]:
        """Give all that shows. The root itself is left out if it is as roots are: others' archives have none."""
        for node in self._stack.walk():
            if node.path or not self._is_plain(node.layer, node.status):
                member = self._member(node.path, node.layer, node.status)
                if member is not None:
                    yield from _closed(member)

    def _is_plain(self, layer: int, root: os.stat_result) -> bool:
        found = Metadata(stat.S_IMODE(root.st_mode), root.st_uid, root.st_gid, self._stack.xattrs(layer, ""))
        return found == Metadata()

    def _member(self, path: str, layer: int, status: os.stat_result) -> Member | None:
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return None
        first = self._names.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if first is not None and kind != tar.DIRECTORY:
            return Member(self._entry(path, tar.LINK, status, link=first))
        if kind == tar.REGULAR:
            return self._file(path, layer)
        entry = self._entry(path, kind, status)
        if kind == tar.SYMLINK:
            entry.link = os.fsencode(self._stack.link(layer, path))
            if not entry.link:
                return None  # it's gone
        elif kind in {tar.CHARACTER, tar.BLOCK_DEVICE}:
            entry.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        entry.xattrs = _encoded(self._stack.xattrs(layer, path))
        return Member(entry)

    def _file(self, path: str, layer: int) -> Member | None:
        opened = self._stack.open(layer, path)
        if opened is None:
            return None
        fd, status = opened
        try:
            entry = self._entry(path, tar.REGULAR, status)
            entry.size = status.st_size
            entry.xattrs = _encoded(self._stack.xattrs(layer, path, fd))
        except BaseException:
            os.close(fd)
            raise
        return Member(entry, fd, status.st_blocks * 512 < status.st_size)

    def _entry(self, path: str, kind: bytes, status: os.stat_result, *, link: bytes = b"") -> tar.Entry:
        name = os.fsencode(path) or b"."
        if status.st_nlink > 1 and kind != tar.DIRECTORY:
            self._names.setdefault((status.st_dev, status.st_ino), name)
        mtime_ns = status.st_mtime_ns if self._newest_ns is None else min(status.st_mtime_ns, self._newest_ns)
        whole_seconds = mtime_ns - mtime_ns % 1_000_000_000
        mode = stat.S_IMODE(status.st_mode)
        return tar.Entry(name, kind, mode, status.st_uid, status.st_gid, 0, whole_seconds, link)


def _closed(member: Member) -> Iterator[Member]:
    """Give it, and close its descriptor then."""
    try:
        yield member
    finally:
        if member.source is not None:
            os.close(member.source)


def _encoded(xattrs: Xattrs) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((os.fsencode(name), value) for name, value in xattrs) if xattrs else ()


def _mark(path: str, prefix: bytes) -> tar.Entry:
    """Return the mark that `path` is deleted, or with a slash at its end that the directory hides what is below."""
    parent, name = split(path)
    mark = os.fsencode(join(parent, "")) + prefix + os.fsencode(name) if parent else prefix + os.fsencode(name)
    return tar.Entry(name=mark, kind=tar.REGULAR, mode=0o600, uid=0, gid=0, size=0, mtime_ns=0)


def root_entry(root: Metadata) -> tar.Entry:
    """Return the member that says what the root directory is."""
    entry = tar.Entry(b".", tar.DIRECTORY, root.mode, root.uid, root.gid, 0, 0)
    entry.xattrs = _encoded(root.xattrs)
    return entry
