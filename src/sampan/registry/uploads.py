"""Blobs on their way in: `uploads/ID`, a file that grows. Its digest is computed of what arrives.

An id is 32 random hexadecimal digits and 16 that belong to the repository, so an upload can't be used under another
name. After a restart the digest of what is there already is computed again from the file: nothing else is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from typing import TYPE_CHECKING

from sampan.registry import durable
from sampan.registry.blobs import hash_file
from sampan.registry.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_ID = re.compile(r"[0-9a-f]{48}")
_REMEMBERED = 1024  # others that nobody uses at the moment are hashed again when somebody does
_TAKE_OVER_S = 10


class Upload:
    """One upload. Only who holds it (Uploads.held) may change it."""

    def __init__(self, id: str, path: str, size: int) -> None:
        self.id = id
        self.path = path
        self.size = size
        self._hasher: hashlib._Hash | None = None
        self._lock = threading.Lock()
        self._interrupt: Callable[[], None] | None = None
        self.users = 0
        self.over = False  # finished or cancelled

    @contextlib.contextmanager
    def held(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Have the upload alone. Who has it is interrupted: its client has lost that connection and comes again."""
        if not self._lock.acquire(blocking=False):
            if self._interrupt is not None:
                self._interrupt()
            if not self._lock.acquire(timeout=_TAKE_OVER_S):
                raise Refusal("BLOB_UPLOAD_INVALID", "another request is writing to this upload", status=409)
        try:
            if self.over:
                raise _unknown(self.id)
            self._interrupt = interrupt
            yield
        finally:
            self._interrupt = None
            self._lock.release()

    def append(self, pieces: Iterable[memoryview], algorithm: str = "sha256", *, most: int | None = None) -> None:
        """Write what arrives, as far as it arrives. With `most`, more than that is refused and none of it kept."""
        fd = self._open()
        try:
            hasher = self._hash(fd, algorithm)
            before, began = hasher.copy(), self.size
            for piece in pieces:
                if most is not None and self.size - began + len(piece) > most:
                    self._forget_since(fd, began, before)
                    raise Refusal("SIZE_INVALID", f"the chunk is longer than the {most} bytes that it said it has")
                self._write(fd, piece, hasher)
            if most is not None and self.size - began < most:
                self._forget_since(fd, began, before)
                raise Refusal("SIZE_INVALID", f"the chunk is shorter than the {most} bytes that it said it has")
        finally:
            os.close(fd)

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # it was stale, and removed
            raise _unknown(self.id) from None

    def _write(self, fd: int, data: memoryview, hasher: hashlib._Hash) -> None:
        while data:
            count = os.pwrite(fd, data, self.size)
            hasher.update(data[:count])
            self.size += count
            data = data[count:]

    def _forget_since(self, fd: int, size: int, hasher: hashlib._Hash) -> None:
        os.ftruncate(fd, size)
        self.size, self._hasher = size, hasher

    def _hash(self, fd: int, algorithm: str) -> hashlib._Hash:
        if self._hasher is None or self._hasher.name != algorithm:
            self._hasher = hash_file(fd, self.size, algorithm)
        return self._hasher

    def seal(self, digest: str) -> None:
        """Insist that the whole is what `digest` names, and put it on the disk. Raises Refusal."""
        algorithm = digest.partition(":")[0]
        fd = self._open()
        try:
            os.ftruncate(fd, self.size)  # a write that failed may have left something behind the end
            received = f"{algorithm}:{self._hash(fd, algorithm).hexdigest()}"
            if received != digest:
                detail = {"digest": digest, "received": received, "size": self.size}
                raise Refusal("DIGEST_INVALID", "provided digest did not match uploaded content", detail=detail)
            os.fsync(fd)
        finally:
            os.close(fd)


class Uploads:
    """All uploads, in one directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._known: dict[str, Upload] = {}

    @contextlib.contextmanager
    def start(self, repository: str) -> Iterator[Upload]:
        """Begin an upload."""
        id = os.urandom(16).hex() + _mark(repository)
        path = f"{self._directory}/{id}"
        durable.make_directory(self._directory)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        with self._lock:
            self._known[id] = Upload(id, path, 0)
            self._forget_some()
        with self.use(repository, id) as upload:
            yield upload

    @contextlib.contextmanager
    def use(self, repository: str, id: str) -> Iterator[Upload]:
        """Give the upload of that id. Raises Refusal."""
        if not _ID.fullmatch(id) or not id.endswith(_mark(repository)):
            raise _unknown(id)
        with self._lock:
            upload = self._known.pop(id, None) or self._from_file(id)
            self._known[id] = upload  # the last used is the last in the dictionary
            upload.users += 1
        try:
            if upload.over:
                raise _unknown(id)
            yield upload
        finally:
            with self._lock:
                upload.users -= 1

    def _from_file(self, id: str) -> Upload:
        path = f"{self._directory}/{id}"
        try:
            return Upload(id, path, os.stat(path).st_size)
        except FileNotFoundError:
            raise _unknown(id) from None

    def end(self, upload: Upload) -> None:
        """Forget an upload that is held; its file is removed unless it has become a blob."""
        upload.over = True
        with contextlib.suppress(FileNotFoundError):
            os.unlink(upload.path)
        with self._lock:
            self._known.pop(upload.id, None)

    def remove_stale(self, age_s: float) -> int:
        """Remove the uploads to which nothing was added for so long; return how many."""
        removed = 0
        with self._lock:
            busy = {id for id, upload in self._known.items() if upload.users}
        before = time.time() - age_s
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if (
                        _ID.fullmatch(entry.name)
                        and entry.name not in busy
                        and entry.stat(follow_symlinks=False).st_mtime <= before
                    ):
                        os.unlink(entry.path)
                        removed += 1
        return removed

    def _forget_some(self) -> None:
        for id in [id for id, upload in self._known.items() if not upload.users][:-_REMEMBERED]:
            del self._known[id]


def _mark(repository: str) -> str:
    return hashlib.sha256(repository.encode()).hexdigest()[:16]


def _unknown(id: str) -> Refusal:
    return Refusal("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", detail={"id": id[:100]})
