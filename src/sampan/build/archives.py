"""Archives that ADD unpacks: tar, plain or compressed by gzip, bzip2, xz or zstd, known by what they are.

Where members go is looked up in the image as it is by then, with the destination as the root: links in a member's path
are followed, its own last component is replaced. As `applyRootArchive` of BuildKit, solver/llbsolver/file; but devices
and pipes are made, as by Docker's classic builder.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput
from sampan.image import tar
from sampan.image.compression import IN_PIECE, decompressed
from sampan.image.extract import split as split_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_ZEROS = bytes(1 << 18)


def is_archive(fd: int) -> bool:
    """Tell whether a file is an archive with a member in it. Reads from its start, and leaves the position anywhere."""
    try:
        return reader(fd).next_entry() is not None
    except InvalidInput:
        return False


def reader(fd: int) -> tar.Reader:
    """Read an archive from its start."""
    os.lseek(fd, 0, os.SEEK_SET)
    file = open(fd, "rb", buffering=IN_PIECE, closefd=False)  # noqa: SIM115  # it closes nothing
    return tar.Reader(decompressed(file))


def path_of(name: bytes) -> str:
    """Return a member's path below the destination, "" for that itself. InvalidInput where it leads out."""
    parent, last = split_name(name)
    return os.fsdecode(parent + b"/" + last if parent else last)


def pieces_of(entry: tar.Entry, archive: tar.Reader) -> Iterator[bytes]:
    """Give the content of a regular file, with zeros for its holes."""
    if entry.regions is None:
        yield from map(bytes, archive.body())
        return
    at = 0
    body = archive.body()
    piece = memoryview(b"")
    for offset, length in entry.regions:
        yield from _zeros(offset - at)
        left = length
        while left:
            if not piece:
                piece = next(body)
            part, piece = piece[:left], piece[left:]
            left -= len(part)
            yield bytes(part)
        at = offset + length
    yield from _zeros(entry.size - at)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield _ZEROS[:count]
        count -= len(_ZEROS)
