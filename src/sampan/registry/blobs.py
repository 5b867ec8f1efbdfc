"""The bytes that all repositories share: `blobs/ALGORITHM/HEX`. Such a file is whole, or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING

from sampan.ids import check_digest
from sampan.registry import durable

if TYPE_CHECKING:
    from collections.abc import Iterator

ALGORITHMS = ("sha256", "sha512")

_READ = 1 << 20
_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.ENXIO)


class Blobs:
    """The blobs under `root`; `tmp` is for small ones that are being written, on the same filesystem."""

    def __init__(self, root: str, tmp: str) -> None:
        self._root = root
        self._tmp = tmp

    def path(self, digest: str) -> str:
        """Return where a blob is, if it is there."""
        algorithm, _, digits = check_digest(digest).partition(":")
        return f"{self._root}/{algorithm}/{digits}"

    def size(self, digest: str) -> int | None:
        """Return a blob's size, None where it isn't there."""
        try:
            status = os.lstat(self.path(digest))
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    @contextlib.contextmanager
    def open(self, digest: str) -> Iterator[tuple[int, int] | None]:
        """Give a descriptor and the size, None where it isn't there. It stays readable while gc removes it."""
        try:
            # A layout comes from somewhere else: no link is followed out of it, and no fifo waited for.
            fd = os.open(self.path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as e:
            if e.errno not in _NO_FILE:
                raise
            yield None
            return
        try:
            status = os.fstat(fd)
            yield (fd, status.st_size) if stat.S_ISREG(status.st_mode) else None
        finally:
            os.close(fd)

    def read(self, digest: str, most: int) -> bytes | None:
        """Return a document, None where it isn't there or is larger than `most`."""
        with self.open(digest) as found:
            if found is None or found[1] > most:
                return None
            return os.pread(found[0], found[1], 0)

    def touch(self, digest: str) -> bool:
        """Tell whether a blob is there; if so gc leaves it alone for the time being (gc.py)."""
        try:
            os.utime(self.path(digest), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def adopt(self, source: str, digest: str) -> None:
        """Make a synced file the blob; where that is there already, the file is only removed."""
        if self.touch(digest):
            os.unlink(source)
        else:
            os.utime(source)  # gc judges by this time whether somebody is about to link the blob
            durable.place(source, self.path(digest))

    def put(self, data: bytes, digest: str) -> None:
        """Keep a small blob."""
        if not self.touch(digest):
            durable.write(self.path(digest), data, self._tmp)

    def remove(self, digest: str) -> bool:
        """Remove a blob; tell whether it was there."""
        return durable.remove(self.path(digest))

    def all(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Give every blob's digest and directory entry."""
        for algorithm in ALGORITHMS:
            with contextlib.suppress(FileNotFoundError), os.scandir(f"{self._root}/{algorithm}") as entries:
                for entry in entries:
                    yield f"{algorithm}:{entry.name}", entry


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of a document."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def hash_file(file: int, size: int, algorithm: str) -> hashlib._Hash:
    """Return the hash over the first `size` bytes of a file; it can be fed on."""
    hasher = hashlib.new(algorithm)
    buffer = memoryview(bytearray(min(_READ, size)))
    at = 0
    while at < size:
        count = os.preadv(file, [buffer[: size - at]], at)
        if count == 0:
            break
        hasher.update(buffer[:count])
        at += count
    return hasher
