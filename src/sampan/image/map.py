"""Where the bytes of layers put together are, and which of them no container sees: the walk.

All layers are walked at once, directory by directory, as overlayfs merges them; nothing is mounted, and no link is
followed. Going down through the layers that have a name, what hides the ones below is remembered: so each file gets the
nearest layer above that hides it. Directories are kept in memory, files only if they are among the largest or have
several names: an image of 500,000 files takes some tens of megabytes.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING, NamedTuple

from sampan.image.unpack import CONTENT, read_record
from sampan.kernel.path import RESOLVE, openat2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OVERWRITTEN, DELETED = 0, 1
_OPAQUE_XATTR = "trusted.overlay.opaque"  # y: it hides what is below; x: whiteouts in it may be files (image/extract)
_WHITEOUT_XATTR = "trusted.overlay.whiteout"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BENEATH = int(RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS)
_LONGEST = 4000  # less than PATH_MAX
_PLAIN = 1 << 16  # a file that takes less room than its size is looked at for holes from this size on


class File(NamedTuple):
    """One file, ordered by size. `hider` is a layer and how it hides the file (`how_of`), or `Walk.seen`."""

    size: int
    directory: int
    name: bytes
    layer: int
    hider: int


class Cell(NamedTuple):
    """The files that a layer has immediately in a directory and that are hidden alike."""

    directory: int
    layer: int
    hider: int
    size: int
    files: int


class _Part(NamedTuple):
    """A directory in one of the layers, and the nearest layer that hides all of it."""

    layer: int
    hider: int


class _Here(NamedTuple):
    """A directory that is being looked at in one layer. `marked`: whiteouts in it may be files."""

    fd: int
    directory: int
    layer: int
    hider: int
    marked: bool


class _Above:
    """What hides a file, and a directory, of some name in the layers below those already looked at."""

    __slots__ = ("directories", "hides_directory", "hides_file")

    def __init__(self, seen: int) -> None:
        self.hides_file = self.hides_directory = seen
        self.directories: tuple[_Part, ...] = ()


def hider_of(layer: int, how: int) -> int:
    """Return the number for a layer that hides something: the nearest is the least."""
    return layer * 2 + how


def how_of(hider: int) -> tuple[int, int]:
    """Return the layer, and OVERWRITTEN or DELETED."""
    return divmod(hider, 2)


class Walk:
    """What was found. Directories are numbers, parents before children: the root is 0. Layers too: the lowest is 0."""

    def __init__(self, layers: Sequence[str], *, keep_files: int) -> None:
        """Walk `layers`, directories as `unpack_layer` makes them, the lowest first; note the largest files."""
        self.count = len(layers)
        self.seen = hider_of(self.count, OVERWRITTEN)
        self.parents = [-1]
        self.names = [b""]
        self.largest: list[File] = []
        self.largest_wasted: list[File] = []
        self._keep = keep_files
        self._sizes: defaultdict[int, int] = defaultdict(int)
        self._files: defaultdict[int, int] = defaultdict(int)
        self._linked: dict[tuple[int, int], File] = {}
        self._pending: list[tuple[int, Sequence[_Part]]] = []
        self._opaque_roots = [read_record(layer).opaque_root for layer in layers]
        self._roots: list[int] = []
        try:
            for layer in layers:
                self._roots.append(os.open(f"{layer}/{CONTENT}", _DIRECTORY))
            self._walk()
        finally:
            for root in self._roots:
                os.close(root)

    def path(self, directory: int, name: bytes = b"") -> bytes:
        """Return the path of a directory, or of a name in it, from "/"."""
        parts = [name] if name else []
        while directory > 0:
            parts.append(self.names[directory])
            directory = self.parents[directory]
        return b"/" + b"/".join(reversed(parts))

    def cells(self) -> Iterator[Cell]:
        """Give all files, summed up by directory, layer and what hides them."""
        for key, size in self._sizes.items():
            place, hider = divmod(key, self.seen + 1)
            directory, layer = divmod(place, self.count)
            yield Cell(directory, layer, hider, size, self._files[key])

    def _walk(self) -> None:
        self._pending.append((0, tuple(_Part(layer, self.seen) for layer in reversed(range(self.count)))))
        while self._pending:
            self._directory(*self._pending.pop())
        for file in self._linked.values():
            self._count(file)

    def _directory(self, directory: int, parts: Sequence[_Part]) -> None:
        """Look at one directory in each layer that has it, topmost first."""
        above: dict[bytes, _Above] = {}
        path = self.path(directory)[1:]
        nearest = self.seen  # what hides the lower parts: this very directory, made anew
        for number, part in enumerate(parts, 1):
            fd = _open(self._roots[part.layer], path)
            try:
                mark = _xattr(fd, _OPAQUE_XATTR)
                here = _Here(fd, directory, part.layer, min(part.hider, nearest), marked=mark == b"x")
                self._entries(here, above, lowest=number == len(parts))
                if self._opaque_roots[part.layer] if directory == 0 else mark == b"y":
                    nearest = hider_of(part.layer, DELETED)
            finally:
                os.close(fd)
        for name, state in above.items():
            if state.directories:
                self._push(directory, name, state.directories)

    def _entries(self, here: _Here, above: dict[bytes, _Above], *, lowest: bool) -> None:
        with os.scandir(here.fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                state = above.get(name)
                if state is None and not lowest:
                    state = above[name] = _Above(self.seen)
                if entry.is_dir(follow_symlinks=False):
                    hider = min(here.hider, state.hides_directory) if state else here.hider
                    if state is None:
                        self._push(here.directory, name, (_Part(here.layer, hider),))
                    else:
                        state.directories += (_Part(here.layer, hider),)
                        state.hides_file = hider_of(here.layer, OVERWRITTEN)
                    continue
                hider = min(here.hider, state.hides_file) if state else here.hider
                how = self._other(here, entry, name, hider)
                if state is not None:
                    state.hides_file = state.hides_directory = hider_of(here.layer, how)

    def _other(self, here: _Here, entry: os.DirEntry[str], name: bytes, hider: int) -> int:
        """Note what is no directory; return what it does to the same name below."""
        if entry.is_symlink():
            return OVERWRITTEN
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            return DELETED
        if not stat.S_ISREG(status.st_mode):
            return OVERWRITTEN
        if here.marked and not status.st_size and _xattr(b"/proc/self/fd/%d/%s" % (here.fd, name), _WHITEOUT_XATTR):
            return DELETED
        file = File(_content_bytes(here.fd, name, status), here.directory, name, here.layer, hider)
        if status.st_nlink == 1:
            self._count(file)
        else:
            self._link(file, status.st_ino)
        return OVERWRITTEN

    def _push(self, parent: int, name: bytes, parts: Sequence[_Part]) -> None:
        self._pending.append((len(self.names), parts))
        self.parents.append(parent)
        self.names.append(name)

    def _link(self, file: File, inode: int) -> None:
        """Keep one of a file's names. Its bytes are wasted when none is seen any more: the last that went counts."""
        known = self._linked.get((file.layer, inode))
        if known is None or (file.hider, self._path_of(known)) > (known.hider, self._path_of(file)):
            self._linked[file.layer, inode] = file

    def _path_of(self, file: File) -> bytes:
        return self.path(file.directory, file.name)

    def _count(self, file: File) -> None:
        key = (file.directory * self.count + file.layer) * (self.seen + 1) + file.hider
        self._sizes[key] += file.size
        self._files[key] += 1
        self._note(self.largest, file)
        if file.hider != self.seen:
            self._note(self.largest_wasted, file)

    def _note(self, heap: list[File], file: File) -> None:
        if len(heap) < self._keep:
            heappush(heap, file)
        elif heap and file.size > heap[0].size:
            heappushpop(heap, file)


def _open(root: int, path: bytes) -> int:
    """Open a directory below `root` without following anything, however long its path is."""
    fd = os.dup(root)
    while True:
        end = path.rfind(b"/", 0, _LONGEST) if len(path) > _LONGEST else len(path)
        try:
            below = openat2(fd, os.fsdecode(path[:end]) or ".", _DIRECTORY, resolve=_BENEATH)
        finally:
            os.close(fd)
        path = path[end + 1 :]
        if not path:
            return below
        fd = below


def _xattr(file: int | bytes, name: str) -> bytes | None:
    try:
        # With a descriptor the option is refused.
        return os.getxattr(file, name) if isinstance(file, int) else os.getxattr(file, name, follow_symlinks=False)
    except OSError:
        return None


def _content_bytes(directory: int, name: bytes, status: os.stat_result) -> int:
    """The size of a file without its holes, as a layer's size has it."""
    if status.st_size < _PLAIN or status.st_blocks * 512 >= status.st_size:
        return status.st_size
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    total = end = 0
    try:
        while end < status.st_size:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
            total += end - start
    except OSError:  # ENXIO: no data up to the end; lseek(2)
        return total
    finally:
        os.close(fd)
    return total
