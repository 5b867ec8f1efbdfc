"""What a member says of one file, put on it: owner, mode, attributes, time, content."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, Unsupported
from sampan.image import tar

if TYPE_CHECKING:
    from collections.abc import Iterator

NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a file is opened that must not be there yet."""

_FORBIDDEN_XATTRS = (b"trusted.overlay.", b"user.overlay.")
_LARGEST_ID = (1 << 32) - 2
_LARGEST_TIME_NS = (1 << 63) - 1


def check(entry: tar.Entry, name: bytes) -> None:
    """Refuse what no honest layer has; `name` is the last component, empty for the root."""
    if not name and entry.kind != tar.DIRECTORY:
        raise InvalidInput(f"can't unpack {show(entry.name)}: the root is a directory")
    for attribute, _ in entry.xattrs:
        if attribute.startswith(_FORBIDDEN_XATTRS):
            raise InvalidInput(f"can't unpack {show(entry.name)}: attribute {show(attribute)} is overlayfs's own")
    if entry.uid > _LARGEST_ID or entry.gid > _LARGEST_ID:
        raise InvalidInput(f"can't unpack {show(entry.name)}: owner {entry.uid}:{entry.gid} is out of range")
    major, minor = entry.device
    if entry.kind in (tar.CHARACTER, tar.BLOCK_DEVICE):
        if (major, minor) == (0, 0):
            raise InvalidInput(f"can't unpack {show(entry.name)}: device 0/0 is overlayfs's own mark of deletion")
        if major >= 1 << 12 or minor >= 1 << 20:
            raise InvalidInput(f"can't unpack {show(entry.name)}: device {major}/{minor} is out of range")


def describe(fd: int, entry: tar.Entry, *, made_with_mode: bool) -> None:
    """Put all of it on an open file or directory that is root's. Its mode only if it was not `made_with_mode`."""
    if entry.uid or entry.gid:
        os.fchown(fd, entry.uid, entry.gid)
    if not made_with_mode:
        os.fchmod(fd, entry.mode)  # after chown, which takes set-user-ID away; chown(2)
    if entry.xattrs:
        _set_xattrs(fd, entry)  # after both, which take security.capability away; capabilities(7)
    mtime_ns = _clamp(entry.mtime_ns)
    os.utime(fd, ns=(mtime_ns, mtime_ns))


def describe_at(dirfd: int, name: bytes, entry: tar.Entry) -> None:
    """The same for what can't be opened, links and devices, without the mode."""
    if entry.uid or entry.gid:
        os.chown(name, entry.uid, entry.gid, dir_fd=dirfd, follow_symlinks=False)
    if entry.xattrs:
        _set_xattrs(at(dirfd, name), entry)
    mtime_ns = _clamp(entry.mtime_ns)
    os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=dirfd, follow_symlinks=False)


def make_node(dirfd: int, name: bytes, entry: tar.Entry) -> None:
    """Make a device or a pipe."""
    kind = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}[entry.kind]
    os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=dirfd)


def mark(fd: int, name: str, value: bytes) -> None:
    """Set one of overlayfs's own attributes."""
    try:
        os.setxattr(fd, name, value)
    except OSError as e:
        if e.errno not in {errno.EPERM, errno.EOPNOTSUPP}:
            raise
        raise Unsupported(
            "its filesystem can't keep overlayfs's marks of what a layer deletes; overlayfs itself can since Linux 6.7",
            "put the store on another filesystem: --root, SAMPAN_ROOT",
        ) from e


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`; write(2) may write less."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def write_regions(fd: int, regions: tuple[tuple[int, int], ...], body: Iterator[memoryview]) -> None:
    """Write a sparse file's data to where it belongs."""
    piece = memoryview(b"")
    for start, length in regions:
        offset, end = start, start + length
        while offset < end:
            if not piece:
                piece = next(body)
            count = os.pwrite(fd, piece[: end - offset], offset)
            offset += count
            piece = piece[count:]


def at(dirfd: int, name: bytes) -> bytes:
    """A path for calls that take no descriptor of a directory."""
    return b"/proc/self/fd/%d/%s" % (dirfd, name)


def show(name: bytes) -> str:
    """A member's name for people."""
    text = name.decode(errors="backslashreplace")
    return text if text.isprintable() else ascii(text)


def _set_xattrs(target: int | bytes, entry: tar.Entry) -> None:
    for name, value in entry.xattrs:
        try:
            # With a descriptor the option is refused; without one it must not follow: the target may be a link.
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as e:
            # What one file's attributes may take is as little as a block; setxattr(2).
            if e.errno == errno.ENOSPC and os.statvfs(target).f_bavail:
                raise InvalidInput(
                    f"can't unpack {show(entry.name)}: attribute {show(name)} of {len(value)} bytes is more than the "
                    "filesystem keeps"
                ) from e
            # Where the store's filesystem has no such attributes an image loses them, but never its capabilities.
            if e.errno not in {errno.EOPNOTSUPP, errno.EPERM} or name == b"security.capability":
                raise


def _clamp(time_ns: int) -> int:
    return max(-_LARGEST_TIME_NS, min(time_ns, _LARGEST_TIME_NS))
