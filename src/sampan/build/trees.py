"""Trees of files that a COPY reads: a build context, and the files of a stage or an image.

Paths are relative to the tree's root, "" is the root itself, and no link is followed on the way: `real` follows them,
inside the tree. What a `.dockerignore` leaves out is not there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol, Self

from sampan.build.ignore import Matcher
from sampan.errors import Failed, doing
from sampan.kernel.path import RESOLVE, openat2
from sampan.rootfs.union import DIRECTORY, OTHER, Stack, follow, join, split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.build.ignore import Above
    from sampan.build.jobs import Place

    Xattrs = tuple[tuple[str, bytes], ...]
    Listed = tuple[str, os.stat_result]

_INSIDE = int(RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_KEPT_OPEN = 64  # directories
_NOT_OURS = ("trusted.overlay.", "user.overlay.", "security.selinux")


class Tree(Protocol):
    """What a COPY reads. OSError is of the files themselves."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def key(self) -> str:
        """What tells it from other trees of this machine: a file's name."""

    @property
    def keeps_owners(self) -> bool:
        """Whether a file's owner goes along; else it becomes root's."""

    def status(self, path: str) -> os.stat_result | None:
        """Return what lstat(2) tells; None where nothing is, or is to be seen."""

    def names(self, path: str) -> list[Listed]:
        """Return what is in a directory, in the order of the names."""

    def is_seen(self, path: str) -> bool:
        """Tell whether a directory is not left out itself; something below it may be there all the same."""

    def is_left_out(self, path: str) -> bool:
        """Tell whether something is there, and a `.dockerignore` leaves it out."""

    def open(self, path: str) -> int:
        """Open a regular file to read."""

    def link(self, path: str) -> str:
        """Return where a symbolic link points."""

    def xattrs(self, path: str, fd: int | None = None) -> Xattrs:
        """Return the extended attributes in the order of their names; `fd` is the file, if it is open."""

    def close(self) -> None:
        """Close all that is open."""


def opened(place: Place) -> Tree:
    """Open a tree."""
    if place.layers:
        return Layers(place.layers, place.name)
    return Directory.opened(place)


class Directory:
    """A directory of this host, reached by descriptors: what is below a link out of it is out of reach."""

    def __init__(self, root: int, ignore: Matcher, name: str, *, keeps_owners: bool) -> None:
        self._root = root
        self._ignore = ignore
        self.name = name
        self.keeps_owners = keeps_owners
        self.key = _key(os.fstat(root))
        self._open: OrderedDict[str, int] = OrderedDict()
        self._above: dict[str, tuple[bool, Above]] = {}

    @classmethod
    def opened(cls, place: Place) -> Self:
        """Open it; refuse one that is not what the client saw under that path."""
        with doing(f"can't read {place.name}"):
            root = os.open(place.directory, _DIRECTORY)
            try:
                found = os.fstat(root)
                if place.identity is not None and (found.st_dev, found.st_ino) != place.identity:
                    raise Failed(
                        f"{place.directory} is another directory here than where the command was given",
                        "the server does not see the same files: give it a tar, `tar -c . | sampan build -`",
                    )
                return cls(root, Matcher(place.ignore), place.name, keeps_owners=place.keep_owners)
            except BaseException:
                os.close(root)
                raise

    def close(self) -> None:
        os.close(self._root)
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def status(self, path: str) -> os.stat_result | None:
        status = self._status(path)
        if status is None or not self._ignore or not path or not self._match(path)[0]:
            return status
        return status if stat.S_ISDIR(status.st_mode) and self._has_something(path) else None

    def names(self, path: str) -> list[Listed]:
        fd = self._directory(path)
        with os.scandir(fd) as entries:
            found = [(entry.name, entry) for entry in entries]
        found.sort(key=_first)
        if not self._ignore:
            return [(name, status) for name, entry in found if (status := _status(entry)) is not None]
        above = self._match(path)[1] if path else ()
        listed = []
        for name, entry in found:
            below = join(path, name)
            matched, inside = self._ignore.match(below, above)
            is_directory = entry.is_dir(follow_symlinks=False)
            if matched and not (is_directory and self._ignore.may_take_in_again(below)):
                continue
            if is_directory:
                self._above[below] = matched, inside
            status = _status(entry)
            if status is not None:
                listed.append((name, status))
        return listed

    def all_below(self, path: str) -> Iterator[os.stat_result]:
        """Give what is below a directory, in no order, also what `.dockerignore` leaves out."""
        pending = [path]
        while pending:
            path = pending.pop()
            with os.scandir(self._directory(path)) as entries:
                for entry in entries:
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(join(path, entry.name))

    def is_seen(self, path: str) -> bool:
        return not path or not self._ignore or not self._match(path)[0]

    def is_left_out(self, path: str) -> bool:
        return self._status(path) is not None and self.status(path) is None

    def open(self, path: str) -> int:
        parent, name = split(path)
        return os.open(name, _FILE, dir_fd=self._directory(parent))

    def link(self, path: str) -> str:
        parent, name = split(path)
        return os.readlink(name, dir_fd=self._directory(parent))

    def xattrs(self, path: str, fd: int | None = None) -> Xattrs:
        try:
            if fd is not None:
                names = os.listxattr(fd)
                return tuple((n, os.getxattr(fd, n)) for n in _own(names)) if names else ()
            parent, name = split(path)
            where = f"/proc/self/fd/{self._directory(parent)}/{name}"
            names = os.listxattr(where, follow_symlinks=False)
            return tuple((n, os.getxattr(where, n, follow_symlinks=False)) for n in _own(names))
        except OSError as e:
            if e.errno in {errno.EOPNOTSUPP, errno.ENODATA}:  # a filesystem without any; one just removed
                return ()
            raise

    def _status(self, path: str) -> os.stat_result | None:
        parent, name = split(path)
        try:
            return os.lstat(name, dir_fd=self._directory(parent)) if path else os.fstat(self._root)
        except OSError as e:
            if e.errno in _NOWHERE:
                return None
            raise

    def _match(self, path: str) -> tuple[bool, Above]:
        found = self._above.get(path)
        if found is None:
            parent = split(path)[0]
            found = self._above[path] = self._ignore.match(path, self._match(parent)[1] if parent else ())
        return found

    def _has_something(self, path: str) -> bool:
        """Tell whether something below a directory that is left out is taken in again."""
        if not self._ignore.may_take_in_again(path):
            return False
        for name, status in self.names(path):
            below = join(path, name)
            if not self._match(below)[0] or (stat.S_ISDIR(status.st_mode) and self._has_something(below)):
                return True
        return False

    def _directory(self, path: str) -> int:
        """Return a descriptor of a directory, good until some dozens of others were asked for."""
        if not path:
            return self._root
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        fd = self._open[path] = openat2(self._root, path, _DIRECTORY, resolve=_INSIDE)
        if len(self._open) > _KEPT_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return fd


class Layers:
    """Layers as overlayfs shows them."""

    keeps_owners = True

    def __init__(self, layers: tuple[str, ...], name: str) -> None:
        self.name = name
        self.stack = Stack(layers)
        self.key = _key(os.stat(layers[0]))
        self._found: dict[str, tuple[int, ...]] = {"": self.stack.merging("", self.stack.all)}

    def close(self) -> None:
        self.stack.close()

    def status(self, path: str) -> os.stat_result | None:
        if not path:
            return self.stack.status(self._found[""][0], "")
        layer = self._layer(path)
        return None if layer is None else self.stack.status(layer, path)

    def names(self, path: str) -> list[Listed]:
        listed = []
        for name, shown in sorted(self.stack.names(path, self._merged(path)).items()):
            below = join(path, name)
            status = self.stack.status(shown.layers[0], below)
            if status is not None:
                listed.append((name, status))
                if shown.kind == DIRECTORY:
                    self._found[below] = self.stack.merging(below, shown.layers)
                else:
                    self._found[below] = shown.layers
        return listed

    def is_seen(self, path: str) -> bool:  # noqa: ARG002
        return True

    def is_left_out(self, path: str) -> bool:  # noqa: ARG002
        return False

    def open(self, path: str) -> int:
        layer = self._layer(path)
        opened = None if layer is None else self.stack.open(layer, path)
        if opened is None:
            raise FileNotFoundError(2, "no such file", path)
        return opened[0]

    def link(self, path: str) -> str:
        layer = self._layer(path)
        return "" if layer is None else self.stack.link(layer, path)

    def xattrs(self, path: str, fd: int | None = None) -> Xattrs:
        layer = self._layer(path)
        return () if layer is None else self.stack.xattrs(layer, path, fd)

    def _layer(self, path: str) -> int | None:
        found = self._found.get(path)
        if found is None:
            shown = self.stack.find(path, self.stack.all)
            if shown is None:
                return None
            found = shown.layers if shown.kind == OTHER else self.stack.merging(path, shown.layers)
            self._found[path] = found
        return found[0]

    def _merged(self, path: str) -> tuple[int, ...]:
        self._layer(path)
        return self._found.get(path, ())


def real(tree: Tree, path: str) -> str:
    """Follow the links in a path as a process whose root the tree is would; what is missing is as named."""

    def link(walked: str) -> str:
        status = tree.status(walked)
        return tree.link(walked) if status is not None and stat.S_ISLNK(status.st_mode) else ""

    return follow(path, link, refuse_many=True)


def _key(root: os.stat_result) -> str:
    return f"{root.st_dev:x}-{root.st_ino:x}"


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # somebody works in the context
        return None


def _first(pair: tuple[str, object]) -> str:
    return pair[0]


def _own(names: list[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith(_NOT_OURS))
