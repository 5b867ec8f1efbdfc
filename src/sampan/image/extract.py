"""Write a layer's members into a directory, in overlayfs's own form, following nothing out of it.

Every member is reached through a descriptor of its parent directory, which openat2(2) found with RESOLVE_IN_ROOT: links
on the way lead where they would lead a process whose root is the layer. What a layer deletes becomes a 0/0 device, a
directory that starts anew gets trusted.overlay.opaque; Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
directories". A tar that brings such devices or attributes itself is refused: it would delete what it does not name.

Where the layer lies on overlayfs itself no such device can be made. There a whiteout is an empty file with an
attribute, in a directory with another one, and the lower overlay passes both on; the same, "Nesting overlayfs mounts",
Linux 6.7.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import InvalidInput, Unsupported
from sampan.image import tar
from sampan.image.tree import Tree
from sampan.kernel.path import RESOLVE, openat2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.image.recipe import Recorder

WHITEOUT_PREFIX = b".wh."
OPAQUE_MARK = b".wh..wh..opq"
_AUFS_PREFIX = b".wh..wh."  # other marks of aufs, which mean nothing to anybody else

_OPAQUE_XATTR = "trusted.overlay.opaque"  # y: it hides what is below; x: whiteouts in it may be files
_WHITEOUT_XATTR = "trusted.overlay.whiteout"
_FORBIDDEN_XATTRS = (b"trusted.overlay.", b"user.overlay.")
_LARGEST_ID = (1 << 32) - 2
_LARGEST_TIME_NS = (1 << 63) - 1
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_OPEN = 64  # directories
_MAX_LINKS = 40  # as many as the kernel follows in one path; path_resolution(7)
_DEEPEST = 256  # directories that no member describes
_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Facts(msgspec.Struct, kw_only=True):
    """What assembling layers needs to know of one, beside its files. Paths are relative, without a slash at the end."""

    implied: list[bytes]  # directories that no member describes: their metadata is that of below; b"" is the root
    whiteouts: list[bytes]  # directories with whiteouts in them
    opaque_root: bool = False  # nothing of the layers below shows; the kernel knows no such mark on a root
    content_bytes: int = 0  # of all regular files, without their holes


class Extractor:
    """Writes members into the directory open at `root`, and puts down in the recipe which content went where.

    Use it from one thread; then `finish`, or at least `close`.
    """

    def __init__(self, root: int, recipe: Recorder) -> None:
        self._root = root
        self._recipe = recipe
        self._open: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()  # path as written → (fd, real path)
        self._retired: list[int] = []  # no longer in _open, may be in use until the current member is done
        self._tree = Tree()
        self._tree.at(b"").implied = True
        self._whiteouts_are_files = False
        self._opaque_root = False
        self._content_bytes = 0

    def write(self, entry: tar.Entry, body: Iterator[memoryview]) -> None:
        """Make what `entry` describes. Raises InvalidInput for what no honest layer has, OSError for what disks do."""
        while self._retired:
            os.close(self._retired.pop())
        parent, name = split(entry.name)
        if name.startswith(WHITEOUT_PREFIX):
            self._delete(parent, name)
            return
        _check(entry, name)
        dirfd, real = self._parent(parent)
        path = _join(real, name)
        match entry.kind:
            case tar.REGULAR:
                self._regular(dirfd, name, path, entry, body)
            case tar.DIRECTORY:
                self._directory(dirfd, name, path, entry)
            case tar.SYMLINK:
                self._vacate(dirfd, name, path)
                os.symlink(entry.link, name, dir_fd=dirfd)
                _describe(dirfd, name, entry)
            case tar.LINK:
                self._link(dirfd, name, path, entry)
            case _:
                self._vacate(dirfd, name, path)
                _make_node(dirfd, name, entry)
                _describe(dirfd, name, entry)
                os.chmod(name, entry.mode, dir_fd=dirfd)

    def finish(self) -> Facts:
        """Give the directories their times; return what there is to know. Nothing can be written any more."""
        self.close()
        implied, whiteouts = [], []
        for path, directory in self._tree:
            if directory.implied:
                implied.append(path)
            if directory.whiteouts:
                whiteouts.append(path)
            if not path and directory.mtime_ns is not None:
                os.utime(self._root, ns=(directory.mtime_ns, directory.mtime_ns))
            times = [(name, below.mtime_ns) for name, below in directory.below.items() if below.mtime_ns is not None]
            if times:
                self._set_times(path, times)
        return Facts(
            implied=sorted(implied),
            whiteouts=sorted(whiteouts),
            opaque_root=self._opaque_root,
            content_bytes=self._content_bytes,
        )

    def _set_times(self, path: bytes, times: list[tuple[bytes, int]]) -> None:
        fd = _open_beneath(self._root, path)
        try:
            for name, mtime_ns in times:
                os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the directories that are open."""
        self._retire_all()
        while self._retired:
            os.close(self._retired.pop())

    def _regular(self, dirfd: int, name: bytes, path: bytes, entry: tar.Entry, body: Iterator[memoryview]) -> None:
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=dirfd)
        except FileExistsError:
            self._vacate(dirfd, name, path)
            fd = os.open(name, _CREATE, 0o600, dir_fd=dirfd)
        try:
            if entry.regions is None:
                for piece in body:
                    write_all(fd, piece)
                self._content_bytes += entry.size
                if entry.size:
                    self._recipe.content(path, entry.size)
            else:
                os.ftruncate(fd, entry.size)
                _write_regions(fd, entry.regions, body)
                self._content_bytes += sum(length for _, length in entry.regions)
                self._recipe.content(path, entry.size, entry.regions)
            if entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)  # after chown, which takes set-user-ID away; chown(2)
            if entry.xattrs:
                _set_xattrs(fd, entry)  # after both, which take security.capability away; capabilities(7)
            mtime = _clamp(entry.mtime_ns)
            os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)

    def _directory(self, dirfd: int, name: bytes, path: bytes, entry: tar.Entry) -> None:
        if path:
            self._mkdir(dirfd, name, path)
        # The name may be "." here, the root itself; else it was made or seen to be a directory just now.
        fd = os.open(name or b".", _DIRECTORY | os.O_NOFOLLOW, dir_fd=dirfd)
        try:
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            _set_xattrs(fd, entry)
        finally:
            os.close(fd)
        directory = self._tree.at(path)
        directory.implied = False
        directory.mtime_ns = _clamp(entry.mtime_ns)

    def _mkdir(self, dirfd: int, name: bytes, path: bytes) -> bool:
        """Make a directory where there is none. Return whether it may have something of its name below it."""
        try:
            os.mkdir(name, 0o755, dir_fd=dirfd)
        except FileExistsError:
            status = os.lstat(name, dir_fd=dirfd)
            if stat.S_ISDIR(status.st_mode):
                return True
            self._vacate(dirfd, name, path)
            os.mkdir(name, 0o755, dir_fd=dirfd)
            # A whiteout, or a file: either had hidden what is below.
            self._make_opaque(dirfd, name, path)
            return False
        return True

    def _link(self, dirfd: int, name: bytes, path: bytes, entry: tar.Entry) -> None:
        parent, target = split(entry.link)
        try:
            source, real = self._parent(parent, make=False)
            status = os.lstat(target or b".", dir_fd=source)
        except OSError as e:
            if e.errno not in _NOWHERE:
                raise
            status = None
        if status is None or stat.S_ISDIR(status.st_mode) or target in self._tree.at(real).whiteouts:
            raise InvalidInput(f"can't unpack hard link {show(entry.name)}: its layer has no file {show(entry.link)}")
        if _join(real, target).startswith(path + b"/"):
            raise InvalidInput(f"can't unpack hard link {show(entry.name)}: it would replace what it links to")
        if _join(real, target) != path:
            self._vacate(dirfd, name, path)
            os.link(target, name, src_dir_fd=source, dst_dir_fd=dirfd, follow_symlinks=False)

    def _delete(self, parent: bytes, mark: bytes) -> None:
        """Put down in overlayfs's form that the layer deletes something below it; never what it has itself."""
        if mark.startswith(_AUFS_PREFIX) and mark != OPAQUE_MARK:
            return
        dirfd, real = self._parent(parent)
        if mark == OPAQUE_MARK:
            self._make_opaque(dirfd, b".", real)
            return
        name = mark.removeprefix(WHITEOUT_PREFIX)
        if name in {b"", b".", b".."}:
            raise InvalidInput(f"can't unpack whiteout {show(mark)}: it names no file")
        directory = self._tree.at(real)
        if directory.opaque or name in directory.whiteouts:
            return
        try:
            self._make_whiteout(dirfd, name, first=not directory.whiteouts)
            directory.whiteouts.add(name)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(name, dir_fd=dirfd).st_mode):
                self._make_opaque(dirfd, name, _join(real, name))
                self._tree.at(_join(real, name)).implied = False

    def _make_whiteout(self, dirfd: int, name: bytes, *, first: bool) -> None:
        if not self._whiteouts_are_files:
            try:
                os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=dirfd)
            except PermissionError:
                self._whiteouts_are_files = True
            else:
                return
        fd = os.open(name, _CREATE, 0o600, dir_fd=dirfd)
        try:
            _mark(fd, _WHITEOUT_XATTR, b"y")
            if first:
                _mark(dirfd, _OPAQUE_XATTR, b"x")
        finally:
            os.close(fd)

    def _make_opaque(self, dirfd: int, name: bytes, path: bytes) -> None:
        """Hide what is below the directory at `path`, called `name` in `dirfd`, and do away with its whiteouts."""
        directory = self._tree.at(path)
        if directory.opaque:
            return
        directory.opaque = True
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=dirfd)
        try:
            for whiteout in directory.whiteouts:
                os.unlink(whiteout, dir_fd=fd)
            directory.whiteouts.clear()
            if path:
                _mark(fd, _OPAQUE_XATTR, b"y")
            else:
                self._opaque_root = True
        finally:
            os.close(fd)

    def _parent(self, path: bytes, *, make: bool = True, links: int = 0) -> tuple[int, bytes]:
        """Return a descriptor of the directory `path`, and its path without links."""
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        found = self._find(path)
        if found is None:
            if not make:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), show(path))
            return self._imply(path, links)
        self._open[path] = found
        if len(self._open) > _KEPT_OPEN:
            self._retired.append(self._open.popitem(last=False)[1][0])
        return found

    def _find(self, path: bytes) -> tuple[int, bytes] | None:
        try:
            return _open_beneath(self._root, path), path
        except OSError as e:
            if e.errno not in _NOWHERE:
                raise
        try:
            fd = openat2(self._root, os.fsdecode(path), _DIRECTORY, resolve=RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS)
        except OSError as e:
            if e.errno not in _NOWHERE:
                raise
            return None
        root = os.readlink(b"/proc/self/fd/%d" % self._root)
        return fd, os.readlink(b"/proc/self/fd/%d" % fd).removeprefix(root).strip(b"/")

    def _imply(self, path: bytes, links: int) -> tuple[int, bytes]:
        """Make a directory of which no member told yet, and those above it."""
        above, _, name = path.rpartition(b"/")
        if path.count(b"/") > _DEEPEST:
            raise InvalidInput(f"can't unpack into {show(path[:300])}…: it is nested too deeply")
        dirfd, real = self._parent(above, links=links)
        try:
            status = os.lstat(name, dir_fd=dirfd)
        except FileNotFoundError:
            status = None
        if status is not None and stat.S_ISLNK(status.st_mode):
            if links >= _MAX_LINKS:
                raise InvalidInput(f"can't unpack into {show(path)}: too many symbolic links")
            target = os.readlink(name, dir_fd=dirfd)
            parent, last = split(target if target.startswith(b"/") else _join(real, target), clamp=True)
            return self._parent(_join(parent, last), links=links + 1)
        if status is not None and name not in self._tree.at(real).whiteouts:
            raise InvalidInput(f"can't unpack into {show(path)}: {show(_join(real, name))} is no directory")
        if self._mkdir(dirfd, name, _join(real, name)):
            self._tree.at(_join(real, name)).implied = True
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=dirfd)
        os.fchmod(fd, 0o755)
        self._retired.append(fd)
        return fd, _join(real, name)

    def _vacate(self, dirfd: int, name: bytes, path: bytes) -> None:
        """Take away what has the name already: the later member of two wins. Contents are kept for the recipe."""
        try:
            status = os.lstat(name, dir_fd=dirfd)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(status.st_mode):
            if stat.S_ISREG(status.st_mode) and status.st_size:
                self._recipe.move(dirfd, name, path)
            else:
                os.unlink(name, dir_fd=dirfd)
                self._tree.at(path.rpartition(b"/")[0]).whiteouts.discard(name)
            if stat.S_ISLNK(status.st_mode):
                self._retire_all()  # what was found through it is elsewhere now
            return
        try:
            os.rmdir(name, dir_fd=dirfd)
        except OSError as e:
            if e.errno != errno.ENOTEMPTY:
                raise
            self._recipe.move(dirfd, name, path)
        self._retire_all()
        self._tree.drop(path)

    def _retire_all(self) -> None:
        self._retired.extend(fd for fd, _ in self._open.values())
        self._open.clear()


def split(name: bytes, *, clamp: bool = False) -> tuple[bytes, bytes]:
    """Split a member's name into its parent and its last component; both are empty for the root.

    A leading slash is taken off, as Docker and tar(1) do. A name that climbs above the root is refused, or stops there
    with `clamp`, as the kernel does.
    """
    if name.startswith(b"./"):
        name = name[2:]
    name = name.rstrip(b"/")
    if b"/." in name or b"//" in name or name[:1] in {b".", b"/"}:
        parts: list[bytes] = []
        for part in name.split(b"/"):
            if part == b"..":
                if not parts and not clamp:
                    raise InvalidInput(f"can't unpack {show(name)}: it leads out of the image's root")
                del parts[-1:]
            elif part not in {b"", b"."}:
                parts.append(part)
        name = b"/".join(parts)
    parent, _, last = name.rpartition(b"/")
    return parent, last


def show(name: bytes) -> str:
    """A member's name for people."""
    text = name.decode(errors="backslashreplace")
    return text if text.isprintable() else ascii(text)


def _check(entry: tar.Entry, name: bytes) -> None:
    if not name and entry.kind != tar.DIRECTORY:
        raise InvalidInput(f"can't unpack {show(entry.name)}: the root is a directory")
    for attribute, _ in entry.xattrs:
        if attribute.startswith(_FORBIDDEN_XATTRS):
            raise InvalidInput(f"can't unpack {show(entry.name)}: attribute {show(attribute)} is overlayfs's own")
    if max(entry.uid, entry.gid) > _LARGEST_ID:
        raise InvalidInput(f"can't unpack {show(entry.name)}: owner {entry.uid}:{entry.gid} is out of range")
    if entry.kind in {tar.CHARACTER, tar.BLOCK_DEVICE}:
        major, minor = entry.device
        if (major, minor) == (0, 0):
            raise InvalidInput(f"can't unpack {show(entry.name)}: device 0/0 is overlayfs's own mark of deletion")
        if major >= 1 << 12 or minor >= 1 << 20:
            raise InvalidInput(f"can't unpack {show(entry.name)}: device {major}/{minor} is out of range")


def _make_node(dirfd: int, name: bytes, entry: tar.Entry) -> None:
    kind = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}[entry.kind]
    os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=dirfd)


def _describe(dirfd: int, name: bytes, entry: tar.Entry) -> None:
    """Owner, attributes and time of what can't be opened: links and devices."""
    if entry.uid or entry.gid:
        os.chown(name, entry.uid, entry.gid, dir_fd=dirfd, follow_symlinks=False)
    if entry.xattrs:
        _set_xattrs(_at(dirfd, name), entry)
    mtime = _clamp(entry.mtime_ns)
    os.utime(name, ns=(mtime, mtime), dir_fd=dirfd, follow_symlinks=False)


def _set_xattrs(target: int | bytes, entry: tar.Entry) -> None:
    for name, value in entry.xattrs:
        try:
            # With a descriptor the option is refused; without one it must not follow: the target may be a link.
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as e:
            # Where the store's filesystem has no such attributes an image loses them, but never its capabilities.
            if e.errno not in {errno.EOPNOTSUPP, errno.EPERM} or name == b"security.capability":
                raise


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`; write(2) may write less."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def _write_regions(fd: int, regions: tuple[tuple[int, int], ...], body: Iterator[memoryview]) -> None:
    piece = memoryview(b"")
    for start, length in regions:
        offset, end = start, start + length
        while offset < end:
            if not piece:
                piece = next(body)
            count = os.pwrite(fd, piece[: end - offset], offset)
            offset += count
            piece = piece[count:]


def _open_beneath(root: int, path: bytes) -> int:
    return openat2(
        root, os.fsdecode(path) or ".", _DIRECTORY, resolve=RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS
    )  # fmt: skip


def _at(dirfd: int, name: bytes) -> bytes:
    return b"/proc/self/fd/%d/%s" % (dirfd, name)


def _join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name


def _mark(fd: int, name: str, value: bytes) -> None:
    try:
        os.setxattr(fd, name, value)
    except OSError as e:
        if e.errno not in {errno.EPERM, errno.EOPNOTSUPP}:
            raise
        raise Unsupported(
            "its filesystem can't keep overlayfs's marks of what a layer deletes; overlayfs itself can since Linux 6.7",
            "put the store on another filesystem: --root, SAMPAN_ROOT",
        ) from e


def _clamp(time_ns: int) -> int:
    return max(-_LARGEST_TIME_NS, min(time_ns, _LARGEST_TIME_NS))
