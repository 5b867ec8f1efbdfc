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
from functools import partial
from typing import TYPE_CHECKING, Protocol

import msgspec

from sampan.errors import InvalidInput
from sampan.image import inode, tar
from sampan.image.inode import show
from sampan.image.tree import Tree
from sampan.kernel.path import RESOLVE, openat2

if TYPE_CHECKING:
    from collections.abc import Callable

    Source = tar.Reader | Callable[[int], None]  # of a member's content: an archive, or what writes it to a descriptor

WHITEOUT_PREFIX = b".wh."
OPAQUE_MARK = b".wh..wh..opq"
_AUFS_PREFIX = b".wh..wh."  # other marks of aufs, which mean nothing to anybody else

_OPAQUE_XATTR = "trusted.overlay.opaque"  # y: it hides what is below; x: whiteouts in it may be files
_WHITEOUT_XATTR = "trusted.overlay.whiteout"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
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


class Recipe(Protocol):
    """Where it is put down which content went where: `recipe.Recorder`."""

    def content(self, path: bytes, size: int, regions: tuple[tuple[int, int], ...] | None = None) -> None:
        """Put down that the next content is in the file `path`."""

    def move(self, dirfd: int, name: bytes, path: bytes) -> None:
        """Move aside what is called `name` in `dirfd`, a file or a directory, for a later member has its `path`."""


class Extractor:
    """Writes members into the directory open at `root`, and puts down in the recipe which content went where.

    Use it from one thread; then `finish`, or at least `close`. Without `marks` names that begin with .wh. are names.
    """

    def __init__(self, root: int, recipe: Recipe, *, marks: bool = True) -> None:
        self._root = root
        self._recipe = recipe
        self._marks = marks
        self._open: dict[bytes, tuple[int, bytes]] = {}  # path as written → (fd, real path)
        self._retired: list[int] = []  # no longer in _open, may be in use until the current member is done
        self._tree = Tree()
        self._tree.at(b"").implied = True
        self._whiteouts_are_files = False
        self._opaque_root = False
        self._set_later = _umask() | 0o7000  # bits of a mode that open(2) does not give a file
        self._content_bytes = 0

    def write(self, entry: tar.Entry, source: Source) -> None:
        """Make what `entry` describes, with its content from `source`.

        Raises InvalidInput for what no honest layer has, OSError for what disks do.
        """
        self._close_retired()
        parent, name = split(entry.name)
        if self._marks and name.startswith(WHITEOUT_PREFIX):
            self._delete(parent, name)
            return
        inode.check(entry, name)
        dirfd, real = self._open.get(parent) or self._parent(parent)
        path = _join(real, name)
        match entry.kind:
            case tar.REGULAR:
                self._regular(dirfd, name, path, entry, source)
            case tar.DIRECTORY:
                if path:
                    self._mkdir(dirfd, name, path)
                self._tree.at(path).describe(entry)
            case tar.SYMLINK:
                self._make(dirfd, name, path, lambda: os.symlink(entry.link, name, dir_fd=dirfd))
                inode.describe_at(dirfd, name, entry)
            case tar.LINK:
                self._link(dirfd, name, path, entry)
            case _:
                self._make(dirfd, name, path, lambda: inode.make_node(dirfd, name, entry))
                inode.describe_at(dirfd, name, entry)
                os.chmod(name, entry.mode, dir_fd=dirfd)

    def expect(self, entry: tar.Entry) -> tuple[bytes, bytes]:
        """Put down a regular file with a name that no other member has, and leave making it to the caller.

        Returns the path of its directory, which is there, and its name in it.
        """
        self._close_retired()
        parent, name = split(entry.name)
        inode.check(entry, name)
        _, real = self._open.get(parent) or self._parent(parent)
        self._content_bytes += entry.size
        self._recipe.content(_join(real, name), entry.size)
        return real, name

    def imply(self, path: bytes) -> None:
        """Say that what a directory was described as is only what it is where no layer below has it."""
        self._tree.at(path).implied = True

    def finish(self) -> Facts:
        """Describe the directories; return what there is to know. Nothing can be written any more.

        Not before, because of their times, and because files in a set-group-ID directory, or in one with a default
        access control list, would get of these.
        """
        self.close()
        directories = list(self._tree)
        for path, directory in reversed(directories):
            described = [(name, below.entry) for name, below in directory.below.items() if below.entry is not None]
            if described:
                parent = open_beneath(self._root, path)
                try:
                    for name, entry in described:
                        _describe_directory(parent, name, entry)
                finally:
                    os.close(parent)
        root = directories[0][1]
        if root.entry is not None:
            inode.describe(self._root, root.entry, made_with_mode=False)
        return Facts(
            implied=sorted(path for path, directory in directories if directory.implied),
            whiteouts=sorted(path for path, directory in directories if directory.whiteouts),
            opaque_root=self._opaque_root,
            content_bytes=self._content_bytes,
        )

    def close(self) -> None:
        """Close the directories that are open."""
        self._retire_all()
        self._close_retired()

    def _close_retired(self) -> None:
        while self._retired:
            os.close(self._retired.pop())

    def _regular(self, dirfd: int, name: bytes, path: bytes, entry: tar.Entry, source: Source) -> None:
        made_with_mode = not entry.mode & self._set_later
        mode = entry.mode if made_with_mode else 0o600
        try:
            fd = os.open(name, inode.NEW_FILE, mode, dir_fd=dirfd)
        except FileExistsError:
            self._vacate(dirfd, name, path)
            fd = os.open(name, inode.NEW_FILE, mode, dir_fd=dirfd)
        try:
            if not isinstance(source, tar.Reader):
                source(fd)
                self._content_bytes += entry.size
                if entry.size:
                    self._recipe.content(path, entry.size)
            elif entry.regions is not None:
                os.ftruncate(fd, entry.size)
                inode.write_regions(fd, entry.regions, source.body())
                self._content_bytes += sum(length for _, length in entry.regions)
                self._recipe.content(path, entry.size, entry.regions)
            elif entry.size:
                if (whole := source.whole_body()) is not None:
                    inode.write_all(fd, whole)
                else:
                    for piece in source.body():
                        inode.write_all(fd, piece)
                self._content_bytes += entry.size
                self._recipe.content(path, entry.size)
            inode.describe(fd, entry, made_with_mode=made_with_mode)
        finally:
            os.close(fd)

    def _make(self, dirfd: int, name: bytes, path: bytes, make: Callable[[], None]) -> None:
        try:
            make()
        except FileExistsError:
            self._vacate(dirfd, name, path)
            make()

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
            link = partial(os.link, target, name, src_dir_fd=source, dst_dir_fd=dirfd, follow_symlinks=False)
            self._make(dirfd, name, path, link)
            _describe_link(dirfd, name, status, entry)

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
            directory.add_whiteout(name)
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
        fd = os.open(name, inode.NEW_FILE, 0o600, dir_fd=dirfd)
        try:
            inode.mark(fd, _WHITEOUT_XATTR, b"y")
            if first:
                inode.mark(dirfd, _OPAQUE_XATTR, b"x")
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
            directory.whiteouts = frozenset()
            if path:
                inode.mark(fd, _OPAQUE_XATTR, b"y")
            else:
                self._opaque_root = True
        finally:
            os.close(fd)

    def _parent(self, path: bytes, *, make: bool = True, links: int = 0) -> tuple[int, bytes]:
        """Return a descriptor of the directory `path`, and its path without links."""
        if path in self._open:
            return self._open[path]
        found = self._find(path)
        if found is None:
            if not make:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), show(path))
            return self._imply(path, links)
        self._open[path] = found
        if len(self._open) > _KEPT_OPEN:
            self._retired.append(self._open.pop(next(iter(self._open)))[0])
        return found

    def _find(self, path: bytes) -> tuple[int, bytes] | None:
        try:
            return open_beneath(self._root, path), path
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
                self._tree.at(path.rpartition(b"/")[0]).drop_whiteout(name)
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


def _describe_link(dirfd: int, name: bytes, there: os.stat_result, entry: tar.Entry) -> None:
    """Have a file be as the last of its names says, as Docker and containerd do. Nearly always it is already."""
    is_link = stat.S_ISLNK(there.st_mode)
    mode = stat.S_IMODE(there.st_mode) if is_link else entry.mode & 0o7777
    if (there.st_uid, there.st_gid, stat.S_IMODE(there.st_mode)) != (entry.uid, entry.gid, mode):
        os.chown(name, entry.uid, entry.gid, dir_fd=dirfd, follow_symlinks=False)
        if not is_link:
            os.chmod(name, mode, dir_fd=dirfd)


def _umask() -> int:
    # To ask umask(2) is to change it, for other threads as well; proc(5) has it since Linux 4.7.
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1], 8) for line in file if line.startswith("Umask:")), 0o777)


def _describe_directory(parent: int, name: bytes, entry: tar.Entry) -> None:
    fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        inode.describe(fd, entry, made_with_mode=False)
    except OSError as e:
        e.filename = entry.name
        raise
    finally:
        os.close(fd)


def open_beneath(root: int, path: bytes) -> int:
    """Open a directory below `root`, through no link."""
    return openat2(
        root, os.fsdecode(path) or ".", _DIRECTORY, resolve=RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS
    )  # fmt: skip


def _join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name
