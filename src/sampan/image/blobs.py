"""Small documents (manifests, configurations) in files named by their digest. Such a file is whole, or not there."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from sampan.errors import Failed, doing
from sampan.ids import check_digest, is_digest, new_id

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


def digest_of(data: bytes) -> str:
    """Return `sha256:…` of a document."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Blobs:
    """The documents under `root`; unfinished ones are in `tmp`, on the same filesystem."""

    def __init__(self, root: str, tmp: str) -> None:
        self._root = root
        self._tmp = tmp
        os.makedirs(f"{root}/sha256", mode=0o700, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Keep a document; when this returns it survives a power cut. Return its digest."""
        digest = digest_of(data)
        path = self._path(digest)
        if os.path.exists(path):
            return digest
        temporary = f"{self._tmp}/{new_id()}"
        with doing("can't keep a document"):
            try:
                with open(temporary, "xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, path)
            except BaseException:
                if os.path.exists(temporary):
                    os.unlink(temporary)
                raise
            _sync_directory(os.path.dirname(path))
        return digest

    def get(self, digest: str) -> bytes:
        """Read a document. Raises Failed where it is missing or not what its name says."""
        try:
            with open(self._path(digest), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            raise Failed(f"can't read document {digest}: it is missing in {self._root}") from None
        if digest_of(data) != digest:
            raise Failed(f"can't read document {digest}: it is damaged: {self._path(digest)}")
        return data

    def keep_only(self, digests: AbstractSet[str]) -> None:
        """Remove all others."""
        for name in os.listdir(f"{self._root}/sha256"):
            if is_digest(f"sha256:{name}") and f"sha256:{name}" not in digests:
                os.unlink(f"{self._root}/sha256/{name}")

    def _path(self, digest: str) -> str:
        algorithm, _, digits = check_digest(digest).partition(":")
        return f"{self._root}/{algorithm}/{digits}"


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
