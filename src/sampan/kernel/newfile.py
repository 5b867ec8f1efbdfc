"""A file that gets its name when it is whole: until then it has none (O_TMPFILE), so that a kill leaves nothing."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # the command line uses this
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


class NewFile:
    """A file being written. `name` is what it will be called, in its directory; it may be set until the end."""

    __slots__ = ("file", "name")

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name

    def write(self, data: bytes) -> None:
        """Append `data`, in as many calls as it takes."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.file.fileno(), rest) :]

    @contextmanager
    def direct(self, size: int) -> Iterator[int]:  # noqa: ARG002  # a file has no frames
        """Give the descriptor to which somebody else appends `size` bytes."""
        yield self.file.fileno()


@contextmanager
def new_file(path: str, mode: int = 0o666) -> Iterator[NewFile]:
    """Write a file; at the end of the block it takes the place of what `path` names. An error leaves that untouched.

    A filesystem without O_TMPFILE (NFS, some FUSE) has a file `.NAME.XXXXXXXX` beside it meanwhile; open(2).
    """
    directory, name = os.path.split(path)
    directory_fd = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    temporary = f".{name[:200]}.{os.urandom(4).hex()}"
    try:
        fd, named = _open(directory_fd, temporary, mode)
        try:
            with os.fdopen(fd, "w+b", buffering=0) as file:
                new = NewFile(file, name)
                yield new
                if not named:
                    # A descriptor's own name in /proc is a link to be followed; linkat(2). dst_dir_fd has it call that.
                    os.link(f"/proc/self/fd/{fd}", temporary, dst_dir_fd=directory_fd, follow_symlinks=True)
                    named = True
                if _exists(new.name, directory_fd):
                    os.fsync(fd)  # or a power cut could take the old content and leave none
            os.rename(temporary, new.name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        except BaseException:
            if named:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=directory_fd)
            raise
    finally:
        os.close(directory_fd)


def _open(directory_fd: int, temporary: str, mode: int) -> tuple[int, bool]:
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=directory_fd), False
    except OSError as e:
        if e.errno not in _NO_TMPFILE:
            raise
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(temporary, flags, mode, dir_fd=directory_fd), True


def _exists(name: str, directory_fd: int) -> bool:
    try:
        os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
