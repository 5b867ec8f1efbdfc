"""Lists of the files that a step has read, kept for `--why`: which of them is another one now.

A list is in a file named by the selection's digest, so what is there needs no second writing. It is made by a worker
and read by the server.
"""

from __future__ import annotations

import os
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_YOUNG_S = 3600
_LARGEST = 256 << 20
"""What a list may be; it is written by us, from what a hostile context holds."""


def write(directory: str, digest: str, files: Iterable[tuple[str, str]]) -> None:
    """Tell the files of a selection, each with what stands for all that matters of it, unless that was told before."""
    path = _path(directory, digest)
    if os.path.exists(path):
        return
    text = "\0".join(part for file in files for part in file)
    data = zlib.compress(text.encode(errors="surrogateescape"), 1)
    new = f"{path}.{os.getpid()}"
    with open(new, "wb") as file:
        file.write(data)
    os.rename(new, path)


def read(directory: str, digest: str) -> dict[str, str] | None:
    """Return the files of a selection: name → what stands for it. None if that was never told, or is damaged."""
    try:
        with open(_path(directory, digest), "rb") as file:
            unpacker = zlib.decompressobj()
            text = unpacker.decompress(file.read(), _LARGEST)
    except (OSError, zlib.error):
        return None
    parts = text.decode(errors="surrogateescape").split("\0")
    return dict(zip(parts[::2], parts[1::2], strict=False))


def keep_only(directory: str, digests: Collection[str]) -> None:
    """Remove all others, less those that a step may just be working with."""
    names = {digest.removeprefix("sha256:") for digest in digests}
    oldest = time.time() - _YOUNG_S
    for entry in os.scandir(directory):
        if entry.name not in names:
            with suppress(FileNotFoundError):
                if entry.stat().st_mtime < oldest:
                    os.unlink(entry.path)


def _path(directory: str, digest: str) -> str:
    return f"{directory}/{digest.removeprefix('sha256:')}"
