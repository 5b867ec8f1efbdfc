"""Unpacking what the engine sends into a directory of this machine."""

from __future__ import annotations

import os
import stat

from sampan.cli.failure import Failure
from sampan.cli.output import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Callable, Iterable, Iterator

    Rename = Callable[[str], str]


class _Stream:
    """Pieces as a file to read from."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


def unpack(
    directory: str,
    pieces: Iterable[bytes],
    *,
    rename: Rename | None = None,
    owners: bool = False,
    overwrite: bool = False,
) -> None:
    """Unpack a tar as the user who asked for it, with `owners` as those of its members; devices are not made.

    Each name is looked up without following links: what an image or a container has can't lead out of the directory.
    `rename` gives members other names; with `overwrite` a file may replace a directory, and the other way round.
    """
    import tarfile

    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stream = _Stream(pieces)
    unpacker = _Unpacker(root, rename, owners=owners, overwrite=overwrite)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                unpacker.add(tar, member)
        while stream.read(1 << 16):
            pass
        unpacker.finish()
    except tarfile.TarError as e:
        raise Failure(f"can't unpack into {directory}: {e}") from None
    finally:
        os.close(root)


class _Unpacker:
    """Writes members below the directory open at `root`."""

    def __init__(self, root: int, rename: Rename | None, *, owners: bool, overwrite: bool) -> None:
        self._root = root
        self._rename = rename
        self._owners = owners
        self._overwrite = overwrite
        self._directories: list[tuple[str, tarfile.TarInfo]] = []
        self._devices = 0

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = self._parts(member.name)
        if member.isdev():
            self._devices += 1
        elif member.isdir():
            if self._overwrite and parts:
                self._make_room(parts)
            os.close(_enter(self._root, parts))
            if parts:
                self._directories.append(("/".join(parts), member))
        elif parts:
            above = _enter(self._root, parts[:-1])
            try:
                self._leaf(above, parts[-1], tar, member)
            finally:
                os.close(above)

    def _parts(self, name: str) -> list[str]:
        parts = [part for part in (self._rename(name) if self._rename else name).split("/") if part not in ("", ".")]
        if ".." in parts:
            raise Failure(f"can't unpack {name}: it leads out of the directory")
        return parts

    def _make_room(self, parts: list[str]) -> None:
        """Remove what is no directory where one is to be."""
        above = _enter(self._root, parts[:-1])
        try:
            if not stat.S_ISDIR(os.lstat(parts[-1], dir_fd=above).st_mode):
                os.unlink(parts[-1], dir_fd=above)
        except FileNotFoundError:
            pass
        finally:
            os.close(above)

    def _leaf(self, above: int, name: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        try:
            os.unlink(name, dir_fd=above)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            if not self._overwrite:
                raise Failure(f'cannot overwrite directory "{name}" with non-directory') from None
            import shutil

            shutil.rmtree(name, dir_fd=above)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=above)
        elif member.islnk():
            target = self._parts(member.linkname)
            beside = _enter(self._root, target[:-1])
            try:
                os.link(target[-1], name, src_dir_fd=beside, dst_dir_fd=above, follow_symlinks=False)
            finally:
                os.close(beside)
            return
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(name, flags, 0o600, dir_fd=above), "wb") as file:
                file.writelines(_content(tar, member))
                file.flush()  # what is written later would change the time
                if self._owners:
                    os.fchown(file.fileno(), member.uid, member.gid)
                os.fchmod(file.fileno(), member.mode & 0o7777)
                os.utime(file.fileno(), (member.mtime, member.mtime))
            return
        if self._owners:
            os.chown(name, member.uid, member.gid, dir_fd=above, follow_symlinks=False)

    def finish(self) -> None:
        """Describe the directories: not before, or nothing could be put into a read-only one."""
        for path, member in reversed(self._directories):
            where = f"/proc/self/fd/{self._root}/{path}"
            if self._owners:
                os.chown(where, member.uid, member.gid)
            os.chmod(where, member.mode & 0o7777)
            os.utime(where, (member.mtime, member.mtime))
        if self._devices:
            warn(f"WARNING: devices are left out: {self._devices}")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    content = tar.extractfile(member)
    while content is not None and (piece := content.read(1 << 18)):
        yield piece


def _enter(root: int, parts: list[str]) -> int:
    """Make and open a directory below `root`, component by component, none of which may be a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    current = os.dup(root)
    for part in parts:
        try:
            os.mkdir(part, 0o755, dir_fd=current)
        except FileExistsError:
            pass
        try:
            below = os.open(part, flags, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current
