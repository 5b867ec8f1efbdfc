"""Jobs of a worker that carry files out of a container and into it: a tar either way, its other end at the client."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from sampan.errors import Conflict, InvalidInput, NotPermitted, SyscallError
from sampan.image import inode, tar, tarwrite
from sampan.image.compression import decompressed
from sampan.kernel.path import is_mount_point, mkdirs_in_root, open_in_root, read_in_root
from sampan.kernel.trees import remove_tree
from sampan.runtime.passwd import look_up
from sampan.supervise import messages as m, places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.image.compression import Readable
    from sampan.supervise.mapped_ids import Ids

_PIECE = 1 << 18
_LONGEST_FILE = 1 << 24
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: tar.REGULAR,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFIFO: tar.FIFO,
}


def stat_path(job: m.StatPath) -> m.PathFound:
    """Tell what a path is."""
    root, _ = places.open_root(job.place)
    found = places.find(root, job.path)
    is_link = stat.S_ISLNK(found.status.st_mode)
    return m.PathFound(
        name=found.shown,
        size=found.status.st_size,
        mode=found.status.st_mode,
        mtime_ns=found.status.st_mtime_ns,
        link_target=places.link_target(root, job.path) if is_link else "",
    )


# ----------------------------------------------------------------------------------------------------------- out of it


def read_path(job: m.ReadPath, fd: int) -> m.Done:
    """Write a file, a link, or a directory with all that is in it, to `fd`."""
    root, ids = places.open_root(job.place)
    found = places.find(root, job.path)
    try:
        with open(fd, "wb", buffering=_PIECE, closefd=False) as file:
            file.writelines(_Writer(ids).archive(found))
            file.write(tarwrite.END)
    except RecursionError:
        raise InvalidInput(f"{job.path} is nested too deeply") from None
    return m.Done()


class _Writer:
    """Makes a tar of files that may change meanwhile: each is opened in its directory's descriptor, never by a path."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._names: dict[tuple[int, int], bytes] = {}

    def archive(self, found: places.Found) -> Iterator[bytes]:
        shown = b"" if found.shown == "/" else os.fsencode(found.shown)
        if not places.is_directory(found):
            yield from self._member(found.parent, found.name, shown, found.status)
            return
        top = os.open(found.name or ".", _OPEN_DIRECTORY, dir_fd=found.parent)
        yield from self._directory(top, shown or b".")

    def _directory(self, fd: int, path: bytes) -> Iterator[bytes]:
        """Give a directory and all below it. Each level has a descriptor open."""
        try:
            yield tarwrite.header(self._entry(path, tar.DIRECTORY, os.fstat(fd), fd))
            for name in sorted(os.listdir(fd)):
                try:
                    status = os.lstat(name, dir_fd=fd)
                    below = path + b"/" + os.fsencode(name)
                    if stat.S_ISDIR(status.st_mode):
                        yield from self._directory(os.open(name, _OPEN_DIRECTORY, dir_fd=fd), below)
                    else:
                        yield from self._member(fd, name, below, status)
                except FileNotFoundError:  # it has gone meanwhile
                    continue
        finally:
            os.close(fd)

    def _member(self, dirfd: int, name: str, path: bytes, status: os.stat_result) -> Iterator[bytes]:
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:  # a socket means nothing without who listens
            return
        first = self._names.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if first is not None:
            entry = self._entry(path, tar.LINK, status)
            entry.link = first
            yield tarwrite.header(entry)
            return
        if kind == tar.REGULAR:
            yield from self._file(os.open(name, _READ, dir_fd=dirfd), path)
            return
        entry = self._entry(path, kind, status)
        if kind == tar.SYMLINK:
            entry.link = os.fsencode(os.readlink(name, dir_fd=dirfd))
        elif kind in {tar.CHARACTER, tar.BLOCK_DEVICE}:
            entry.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        yield tarwrite.header(entry)

    def _file(self, fd: int, path: bytes) -> Iterator[bytes]:
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):  # another has its name by now
                return
            entry = self._entry(path, tar.REGULAR, status, fd)
            entry.size = left = status.st_size
            yield tarwrite.header(entry)
            while left:
                piece = os.read(fd, min(left, _PIECE)) or bytes(min(left, _PIECE))
                left -= len(piece)
                yield piece
            yield tarwrite.padding(entry.size)
        finally:
            os.close(fd)

    def _entry(self, path: bytes, kind: bytes, status: os.stat_result, fd: int = -1) -> tar.Entry:
        if status.st_nlink > 1 and kind not in {tar.DIRECTORY, tar.LINK}:
            self._names.setdefault((status.st_dev, status.st_ino), path)
        mode = stat.S_IMODE(status.st_mode)
        uid, gid = self._ids.inside(status.st_uid, status.st_gid)
        entry = tar.Entry(path, kind, mode, uid, gid, 0, status.st_mtime_ns)
        if fd >= 0:
            entry.xattrs = _attributes(fd)
        return entry


def _attributes(fd: int) -> tuple[tuple[bytes, bytes], ...]:
    """Return the attributes that mean the same elsewhere."""
    try:
        names = [name for name in os.listxattr(fd) if name.startswith("user.") or name == "security.capability"]
        return tuple((os.fsencode(name), os.getxattr(fd, name)) for name in sorted(names))
    except OSError:
        return ()


# ------------------------------------------------------------------------------------------------------------- into it


class _Input:
    """A descriptor to read from."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int, /) -> bytes:
        return os.read(self._fd, size)


def write_path(job: m.WritePath, fd: int) -> m.Done:
    """Unpack the archive that comes from `fd`, in any compression, into a directory of the container."""
    root, ids = places.open_root(job.place)
    directory = places.open_directory(root, job.path)
    whole = os.fstat(directory).st_dev == os.fstat(root).st_dev
    os.close(directory)
    target = places.link_target(root, job.path)
    owner = _owner(root, job.user) if job.user else None
    os.umask(0)
    try:
        _Unpacker(root, target, owner, ids, keep_kinds=job.keep_kinds).unpack(_Input(fd))
    except (OSError, SyscallError) as e:
        if e.errno == errno.EROFS:
            raise NotPermitted(f"{'container rootfs' if whole else 'mounted volume'} is marked read-only") from None
        raise
    return m.Done()


def _owner(root: int, user: str) -> tuple[int, int]:
    passwd, group = (read_in_root(root, path, _LONGEST_FILE) for path in ("etc/passwd", "etc/group"))
    found = look_up(user, passwd, group)
    return found.uid, found.gid


class _Unpacker:
    """Writes members below one directory of the container; links in it lead to where they lead in the container."""

    def __init__(self, root: int, target: str, owner: tuple[int, int] | None, ids: Ids, *, keep_kinds: bool) -> None:
        self._root = root
        self._target = target
        self._owner = owner
        self._ids = ids
        self._keep_kinds = keep_kinds
        self._directories: list[tuple[str, tar.Entry]] = []

    def unpack(self, source: Readable) -> None:
        """Write all members. The times and modes of directories come last: writing into them changes these."""
        reader = tar.Reader(decompressed(source))
        while (entry := reader.next_entry()) is not None:
            self._member(reader, entry)
        for path, entry in reversed(self._directories):
            fd = open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                inode.describe(fd, entry, made_with_mode=False)
            finally:
                os.close(fd)

    def _member(self, reader: tar.Reader, entry: tar.Entry) -> None:
        parts = [part for part in os.fsdecode(entry.name).split("/") if part not in {"", "."}]
        if ".." in parts:
            raise InvalidInput(f"can't unpack {inode.show(entry.name)}: it leads out of the directory")
        inode.check(entry, os.fsencode(parts[-1]) if parts else b"")
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        entry.uid, entry.gid = self._ids.outside(entry.uid, entry.gid)
        if not parts:
            self._directories.append((self._target, entry))
            return
        above = "/".join((self._target, *parts[:-1]))
        parent = mkdirs_in_root(self._root, above)
        try:
            self._write(reader, entry, parent, (above, parts[-1]))
        finally:
            os.close(parent)

    def _write(self, reader: tar.Reader, entry: tar.Entry, parent: int, where: tuple[str, str]) -> None:
        above, text = where
        name = os.fsencode(text)
        in_place = self._make_room(parent, text, entry)
        match entry.kind:
            case tar.DIRECTORY:
                if not in_place:
                    os.mkdir(name, 0o755, dir_fd=parent)
                self._directories.append((f"{above}/{text}", entry))
            case tar.REGULAR:
                self._file(reader, entry, parent, name, in_place=in_place)
            case tar.SYMLINK:
                os.symlink(entry.link, name, dir_fd=parent)
                inode.describe_at(parent, name, entry)
            case tar.LINK:
                self._link(entry, parent, name)
            case _:
                inode.make_node(parent, name, entry)
                inode.describe_at(parent, name, entry)
                os.chmod(name, entry.mode, dir_fd=parent)

    def _make_room(self, parent: int, name: str, entry: tar.Entry) -> bool:
        """Remove what has the name; True where it stays: a directory, or a file that is mounted there."""
        try:
            status = os.lstat(name, dir_fd=parent)
        except FileNotFoundError:
            return False
        was, becomes = stat.S_ISDIR(status.st_mode), entry.kind == tar.DIRECTORY
        if was and becomes:
            return True
        if self._keep_kinds and was != becomes:
            kinds = ("directory", "non-directory") if was else ("non-directory", "directory")
            raise Conflict(f'cannot overwrite {kinds[0]} "{name}" with {kinds[1]} "{inode.show(entry.name)}"')
        # Not left to EBUSY: what is mounted in a namespace that is not this process's goes with its name. unlink(2)
        if is_mount_point(parent, name):
            if stat.S_ISREG(status.st_mode) and entry.kind == tar.REGULAR:
                return True
            raise Conflict(f'cannot overwrite "{name}": device or resource busy', "something is mounted there")
        if was:
            remove_tree(f"/proc/self/fd/{parent}/{name}")
        else:
            os.unlink(name, dir_fd=parent)
        return False

    def _file(self, reader: tar.Reader, entry: tar.Entry, parent: int, name: bytes, *, in_place: bool) -> None:
        flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC if in_place else inode.NEW_FILE
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            if entry.regions is not None:
                os.ftruncate(fd, entry.size)
                inode.write_regions(fd, entry.regions, reader.body())
            else:
                for piece in reader.body():
                    inode.write_all(fd, piece)
            inode.describe(fd, entry, made_with_mode=False)
        finally:
            os.close(fd)

    def _link(self, entry: tar.Entry, parent: int, name: bytes) -> None:
        parts = [part for part in os.fsdecode(entry.link).split("/") if part not in {"", "."}]
        if ".." in parts or not parts:
            raise InvalidInput(f"can't link {inode.show(entry.name)} to {inode.show(entry.link)}: it leads out")
        beside = open_in_root(self._root, "/".join((self._target, *parts[:-1])), os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(os.fsencode(parts[-1]), name, src_dir_fd=beside, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(beside)
