"""Digests of files' contents, remembered: a file that lstat(2) shows unchanged is not read again.

Known by device, inode, size and both times. The inode's own time can't be set, and every write changes it. But clocks
tick: what was changed a moment before it was read could be changed again within the same tick, and look unchanged.
Such a digest is not remembered, as git does not trust such an entry of its index; git's racy-git.txt.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from contextlib import suppress

from sampan.ids import new_id

_MAGIC = b"sampan contents 1\n"
_RECORD = struct.Struct("<QQQqq32s")  # inode, device, size, times of content and of inode, digest
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000  # of filesystems that keep whole seconds; FAT's are two
_PIECE = 1 << 18
_UNUSED_S = 30 * 24 * 3600
_MOST_UNUSED = 10_000  # that are kept in one place beside those that were used


class Contents:
    """The digests of what is read in one place. `save` at the end."""

    def __init__(self, directory: str, key: str) -> None:
        self._path = f"{directory}/{key}" if directory else ""
        self._known: dict[int, tuple[int, int, int, int, bytes]] = {}
        self._used: set[int] = set()
        self._changed = False
        if directory:
            self._load()

    def get(self, status: os.stat_result) -> bytes | None:
        """Return the digest of the file that lstat(2) shows so, if it is known."""
        found = self._known.get(status.st_ino)
        if found is None or found[:4] != _facts(status):
            return None
        self._used.add(status.st_ino)
        return found[4]

    def put(self, status: os.stat_result, digest: bytes) -> None:
        """Remember the digest of a file that was like this before and after it was read."""
        tick_ns = _TICK_NS if status.st_ctime_ns % 1_000_000_000 else _COARSE_TICK_NS
        if not self._path or time.time_ns() - status.st_ctime_ns < tick_ns:
            return
        self._known[status.st_ino] = (*_facts(status), digest)
        self._used.add(status.st_ino)
        self._changed = True

    def save(self) -> None:
        """Write down what has been learnt. That others do meanwhile costs a few digests, no more."""
        if not self._changed:
            return
        self._changed = False
        if len(self._known) > 2 * len(self._used) + _MOST_UNUSED:
            self._known = {inode: facts for inode, facts in self._known.items() if inode in self._used}
        directory = os.path.dirname(self._path)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        _remove_unused(directory)
        temporary = f"{directory}/.{new_id()}"
        try:
            with open(temporary, "xb") as file:
                file.write(_MAGIC)
                file.write(b"".join(_RECORD.pack(inode, *facts) for inode, facts in self._known.items()))
            os.rename(temporary, self._path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def _load(self) -> None:
        try:
            with open(self._path, "rb") as file:
                data = file.read()
            os.utime(self._path)
        except FileNotFoundError:
            return
        if data.startswith(_MAGIC) and (len(data) - len(_MAGIC)) % _RECORD.size == 0:
            self._known = {record[0]: record[1:] for record in _RECORD.iter_unpack(memoryview(data)[len(_MAGIC) :])}


def digest_of(fd: int, size: int) -> bytes:
    """Hash the first `size` bytes of a file; what it lacks is zeros."""
    digest = hashlib.sha256()
    at = 0
    while at < size and (piece := os.pread(fd, min(_PIECE, size - at), at)):
        digest.update(piece)
        at += len(piece)
    while at < size:
        digest.update(bytes(min(_PIECE, size - at)))
        at += min(_PIECE, size - at)
    return digest.digest()


def _facts(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _remove_unused(directory: str) -> None:
    """Forget places that nothing was read from for long."""
    oldest = time.time() - _UNUSED_S
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.stat().st_mtime < oldest:
                    os.unlink(entry.path)
