"""Layers as overlayfs merges them, read without a mount: from their own directories, by descriptors.

What a container sees is found out beside it, also while it runs and changes what is read. Every directory is reached
from its layer's root by openat2(2), which follows no link and does not leave it. A file that is renamed or removed
meanwhile is passed over, as by anybody who reads a directory that others write to.

The rules are those of Documentation/filesystems/overlayfs.rst: of several directories the topmost gives the metadata,
and all their names show down to one that is opaque; anything else hides what is below it; 0/0 devices hide only, and
so do empty files with the attribute `trusted.overlay.whiteout` in a directory whose opacity is "x".
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, Self

from sampan.errors import InvalidInput, NotFound, Unsupported
from sampan.kernel.mount import AT, AT_FDCWD, MOUNT_ATTR, OPEN_TREE, mount_setattr, open_tree
from sampan.kernel.path import RESOLVE, openat2
from sampan.rootfs.overlay import OPAQUE_XATTR, OVERLAY_XATTRS, WHITEOUT_XATTR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Xattrs = tuple[tuple[str, bytes], ...]

DIRECTORY, WHITEOUT, OTHER = "directory", "whiteout", "other"

_NOT_OURS = (*OVERLAY_XATTRS, "security.selinux")
_INSIDE = int(RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_XDEV)
_ELSEWHERE = frozenset({"trusted.overlay.metacopy", "trusted.overlay.redirect"})
_CAREFUL = int(MOUNT_ATTR.RDONLY | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOATIME)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_KEPT_OPEN = 64  # directories
_MAX_LINKS = 40  # as many as the kernel follows in one path; path_resolution(7)
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NO_ATTRIBUTE = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Shown(NamedTuple):
    """What shows under a name: its kind in the topmost layer, and the layers that have part in it, topmost first."""

    kind: str
    layers: tuple[int, ...]


class Node(NamedTuple):
    """One file as it shows. The root's `path` is ""; others have no slash at either end."""

    path: str
    layer: int
    status: os.stat_result


class Stack:
    """The `layers`, topmost first, told apart by their position. For one thread; close it, or use it in a `with`."""

    def __init__(self, layers: Sequence[str]) -> None:
        self._roots: list[int] = []
        self._no_devices = True
        self._open: OrderedDict[tuple[int, str], int] = OrderedDict()
        self.all = tuple(range(len(layers)))
        try:
            for path in layers:
                fd, no_devices = _open_root(path)
                self._roots.append(fd)
                self._no_devices = self._no_devices and no_devices
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all that is open."""
        for fd in (*self._roots, *self._open.values()):
            os.close(fd)
        self._roots.clear()
        self._open.clear()

    # ------------------------------------------------------------------------------------------- in one layer

    def directory(self, layer: int, path: str) -> int:
        """Return a descriptor of a directory, good until some dozens of others were asked for. OSError if it's gone."""
        key = (layer, path)
        fd = self._open.get(key)
        if fd is not None:
            self._open.move_to_end(key)
            return fd
        try:
            fd = self._open[key] = openat2(self._roots[layer], path or ".", _OPEN, resolve=_INSIDE)
        except OSError as e:
            if e.errno == errno.ENAMETOOLONG:
                raise InvalidInput(f"/{path[:200]}…: it is nested too deeply", "remove it in the container") from e
            raise
        if len(self._open) > _KEPT_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def status(self, layer: int, path: str) -> os.stat_result | None:
        """Return what lstat(2) tells; None if it's gone."""
        parent, name = split(path)
        try:
            return os.lstat(name or ".", dir_fd=self.directory(layer, parent))
        except OSError as e:
            if e.errno in _GONE:
                return None
            raise

    def open(self, layer: int, path: str) -> tuple[int, os.stat_result] | None:
        """Open a regular file to read; None if it's gone, or something else has taken its place."""
        parent, name = split(path)
        try:
            fd = self._open_file(name, self.directory(layer, parent))
        except OSError as e:
            if e.errno in _GONE or e.errno == errno.ENXIO or self._is_device(layer, path):
                return None
            raise
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            return fd, status
        os.close(fd)
        return None

    def _is_device(self, layer: int, path: str) -> bool:
        status = self.status(layer, path)
        return status is None or stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)

    def _open_file(self, name: str, dirfd: int) -> int:
        if self._no_devices:
            return os.open(name, _FILE, dir_fd=dirfd)
        # To open a device may be an action, of a watchdog for example: look first, then open what was looked at.
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dirfd)
        try:
            return os.open(f"/proc/self/fd/{fd}", _FILE & ~os.O_NOFOLLOW) if _is_regular(fd) else os.dup(fd)
        finally:
            os.close(fd)

    def link(self, layer: int, path: str) -> str:
        """Return where a symbolic link points; "" if it's gone."""
        parent, name = split(path)
        try:
            return os.readlink(name, dir_fd=self.directory(layer, parent))
        except OSError as e:
            if e.errno in _GONE or e.errno == errno.EINVAL:
                return ""
            raise

    def xattrs(self, layer: int, path: str, fd: int | None = None) -> Xattrs:
        """Return the extended attributes in the order of their names, less overlayfs's own and this host's labels.

        `fd` is the file, if it is open.
        """
        try:
            if fd is not None:
                names = _readable(os.listxattr(fd), path)
                return tuple((n, os.getxattr(fd, n)) for n in names)
            parent, name = split(path)
            where = f"/proc/self/fd/{self.directory(layer, parent)}/{name}"
            names = _readable(os.listxattr(where, follow_symlinks=False), path)
            return tuple((n, os.getxattr(where, n, follow_symlinks=False)) for n in names)
        except OSError as e:
            if e.errno in _NO_ATTRIBUTE:
                return ()
            raise

    def opacity(self, layer: int, path: str) -> bytes:
        """Return b"y" for a directory that hides those below it, b"x" for one with whiteouts by attribute, else b""."""
        try:
            return os.getxattr(self.directory(layer, path), OPAQUE_XATTR)
        except OSError as e:
            if e.errno in _NO_ATTRIBUTE:
                return b""
            raise

    def entries(self, layer: int, path: str) -> dict[str, str]:
        """Return the names in a directory with the kind of each; none if it's gone."""
        try:
            fd = self.directory(layer, path)
            _readable(os.listxattr(fd), path)
            marked = self.opacity(layer, path) == b"x"
            with os.scandir(fd) as found:
                return {entry.name: _kind(entry, fd, marked=marked) for entry in found}
        except OSError as e:
            if e.errno in _GONE:
                return {}
            raise

    # ------------------------------------------------------------------------------------------- merged

    def merging(self, path: str, layers: Sequence[int]) -> tuple[int, ...]:
        """Of the layers that have a directory `path`, return those that an opaque one above does not hide."""
        for count, layer in enumerate(layers, 1):
            if self.opacity(layer, path) == b"y":
                return tuple(layers[:count])
        return tuple(layers)

    def names(self, path: str, layers: Sequence[int]) -> dict[str, Shown]:
        """Return what shows in the directory `path` of these layers."""
        if len(layers) == 1:
            entries = self.entries(layers[0], path)
            return {name: Shown(kind, tuple(layers)) for name, kind in entries.items() if kind != WHITEOUT}
        found: dict[str, Shown] = {}
        hidden: set[str] = set()
        for layer in layers:
            for name, kind in self.entries(layer, path).items():
                if name in hidden:
                    continue
                above = found.get(name)
                if kind == DIRECTORY:
                    found[name] = Shown(kind, (*above.layers, layer) if above else (layer,))
                    continue
                hidden.add(name)
                if kind == OTHER and above is None:
                    found[name] = Shown(kind, (layer,))
        return found

    def walk(self) -> Iterator[Node]:
        """Give everything that shows, the root first, a directory before what is in it, names in order."""
        pending: list[tuple[str, Iterator[tuple[str, Shown]]]] = []
        yield from self._visit("", Shown(DIRECTORY, self.all), pending)
        while pending:
            parent, names = pending[-1]
            name, shown = next(names, ("", None))
            if shown is None:
                pending.pop()
            else:
                yield from self._visit(join(parent, name), shown, pending)

    def _visit(self, path: str, shown: Shown, pending: list[tuple[str, Iterator[tuple[str, Shown]]]]) -> Iterator[Node]:
        status = self.status(shown.layers[0], path)
        if status is None:
            return
        yield Node(path, shown.layers[0], status)
        if stat.S_ISDIR(status.st_mode):
            names = self.names(path, self.merging(path, shown.layers))
            pending.append((path, iter(sorted(names.items()))))

    def find(self, path: str, layers: Sequence[int]) -> Shown | None:
        """Return what shows at a path of which no component above the last one may be a link; None for nothing."""
        shown: Shown | None = Shown(DIRECTORY, tuple(layers))
        walked = ""
        for name in path.split("/") if path else ():
            if shown is None or shown.kind != DIRECTORY:
                return None
            shown = self._child(walked, name, self.merging(walked, shown.layers))
            walked = join(walked, name)
        return shown

    def real(self, path: str, layers: Sequence[int]) -> str:
        """Follow the links of these layers in a path as a process in this root would; what is missing is as named."""

        def link(walked: str) -> str:
            shown = self.find(walked, layers)
            return self.link(shown.layers[0], walked) if shown and shown.kind == OTHER else ""

        return follow(path, link)

    def _child(self, path: str, name: str, layers: Sequence[int]) -> Shown | None:
        directories: list[int] = []
        for layer in layers:
            status = self.status(layer, join(path, name))
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                directories.append(layer)
                continue
            if not directories and not is_whiteout(status):
                return Shown(OTHER, (layer,))
            break
        return Shown(DIRECTORY, tuple(directories)) if directories else None


def directories_at(layers: Sequence[str], path: str) -> tuple[str, ...]:
    """Return the directories that have part in the one at `path`, topmost first; of a file the file alone.

    Links on the way are followed inside of these layers. Raises NotFound.
    """
    with Stack(layers) as stack:
        real = stack.real(path, stack.all)
        shown = stack.find(real, stack.all)
        if shown is None:
            raise NotFound(f"{path} not found")
        merged = stack.merging(real, shown.layers) if shown.kind == DIRECTORY else shown.layers[:1]
        return tuple(f"{layers[number].rstrip('/')}/{real}".rstrip("/") or "/" for number in merged)


def real_path(layers: Sequence[str], path: str) -> str:
    """Return where the links of these layers lead from a path, without a slash before it; what is missing as named."""
    with Stack(layers) as stack:
        return stack.real(path, stack.all)


def follow(path: str, link: Callable[[str], str], *, refuse_many: bool = False) -> str:
    """Follow the links in a path; `link` tells where one points, "" for what is none. `..` stops at the root.

    Of more links than the kernel follows the rest are taken as named, or with `refuse_many` InvalidInput is raised.
    """
    remaining = path.split("/")[::-1]
    walked = ""
    links = 0
    while remaining:
        name = remaining.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            walked = split(walked)[0]
            continue
        target = link(join(walked, name))
        if target and links == _MAX_LINKS and refuse_many:
            raise InvalidInput(f"/{path}: too many links", "do they go round in a circle?")
        if not target or links == _MAX_LINKS:
            walked = join(walked, name)
            continue
        links += 1
        remaining.extend(target.split("/")[::-1])
        if target.startswith("/"):
            walked = ""
    return walked


def split(path: str) -> tuple[str, str]:
    """Return a path's parent and last component; both are "" for the root."""
    parent, _, name = path.rpartition("/")
    return parent, name


def join(parent: str, name: str) -> str:
    """Return the path of `name` in a directory."""
    return f"{parent}/{name}" if parent else name


def is_whiteout(status: os.stat_result) -> bool:
    """Tell whether it is the device by which overlayfs deletes."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _open_root(path: str) -> tuple[int, bool]:
    """Open a layer as a mount of its own through which nothing is written; tell whether devices can't be opened there.

    Of `/`, which is a layer for the image `host`, it shows that filesystem alone, without what is mounted in it.
    """
    fd = open_tree(AT_FDCWD, path, OPEN_TREE.CLONE)
    try:
        mount_setattr(fd, "", AT.EMPTY_PATH, set=_CAREFUL, clear=MOUNT_ATTR.ATIME)
    except OSError as e:
        if e.errno != errno.ENOSYS:  # before Linux 5.12
            os.close(fd)
            raise
        return fd, False
    return fd, True


def _is_regular(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _readable(xattrs: list[str], path: str) -> list[str]:
    """Return the attributes that are a file's own, sorted; refuse a file whose content is elsewhere."""
    if not xattrs:
        return xattrs
    if not _ELSEWHERE.isdisjoint(xattrs):
        raise Unsupported(
            f"/{path} was written with overlayfs's metacopy or redirect_dir on: only its mount can tell what it is",
            "this version turns them off, in a container that is made anew",
        )
    return sorted(name for name in xattrs if not name.startswith(_NOT_OURS))


def _kind(entry: os.DirEntry[str], dirfd: int, *, marked: bool) -> str:
    if entry.is_dir(follow_symlinks=False):
        return DIRECTORY
    if entry.is_symlink():
        return OTHER
    if entry.is_file(follow_symlinks=False):
        return WHITEOUT if marked and _has_mark(entry, dirfd) else OTHER
    try:
        return WHITEOUT if is_whiteout(entry.stat(follow_symlinks=False)) else OTHER
    except FileNotFoundError:
        return OTHER


def _has_mark(entry: os.DirEntry[str], dirfd: int) -> bool:
    try:
        os.getxattr(f"/proc/self/fd/{dirfd}/{entry.name}", WHITEOUT_XATTR, follow_symlinks=False)
    except OSError:
        return False
    return True
