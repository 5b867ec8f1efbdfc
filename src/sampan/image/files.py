"""Blobs in directories outside of the store: found, read and written, whoever else works there."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import IO, TYPE_CHECKING, BinaryIO

from sampan.errors import InvalidInput
from sampan.kernel.newfile import new_file
from sampan.spec.distribution import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sampan.image.transfer import Opener

_PIECE = 1 << 18


def open_regular(path: str) -> BinaryIO:
    """Open a file that must be a regular one: a FIFO would have us wait for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidInput(f"can't read {path}: it is no regular file")
    return os.fdopen(fd, "rb", buffering=0)


def read_document(path: str, limit: int) -> bytes:
    """Read a small file. Raises NotFound, and InvalidInput where it is too large."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidInput(f"can't read {path}: it is longer than {limit} bytes")
    return data


def read_blob(path: str, offset: int) -> Iterator[bytes]:
    """Give a file's bytes from an offset on."""
    with open_regular(path) as file:
        yield from pieces_of(file, offset)


def pieces_of(file: IO[bytes], offset: int, end: int | None = None) -> Iterator[bytes]:
    """Give the bytes of an open file from an offset on, up to `end`; several readers don't disturb each other."""
    while piece := os.pread(file.fileno(), _PIECE if end is None else min(_PIECE, end - offset), offset):
        offset += len(piece)
        yield piece


def has_file(path: str, size: int) -> bool:
    """Tell whether there is a file of this size: its name is its digest, and it got the name when it was whole."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def write_blob(directory: str, open: Opener, digest: str | None) -> Descriptor:
    """Write a blob, which is `digest` where that is given, to a file of the directory named by the digest's digits."""
    with new_file(f"{directory}/blob") as new:
        written = write_pieces(new.file, open(0), digest)
        os.fsync(new.file.fileno())  # before a document names it
        new.name = written.digest.partition(":")[2]
    return written


def write_pieces(file: IO[bytes], pieces: Iterable[bytes], digest: str | None) -> Descriptor:
    """Write the bytes of a blob to an open file; say what it was, if that is not known."""
    hash, size = None if digest else hashlib.sha256(), 0
    for piece in pieces:
        if hash is not None:
            hash.update(piece)
        size += len(piece)
        write_all(file, piece)
    return Descriptor(media_type="", digest=digest or f"sha256:{hash.hexdigest() if hash else ''}", size=size)


def write_all(file: IO[bytes], data: bytes) -> None:
    """Write all of it: an unbuffered file may take less."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]
