"""The registry's own form of a directory: plain files, each whole or not there.

    registry.json                                    {"version": 1}: what this directory is
    blobs/ALGORITHM/HEX                              the bytes, also of manifests
    repositories/NAME/_blobs/ALGORITHM/HEX           empty: the repository has this blob
    repositories/NAME/_manifests/ALGORITHM/HEX       the media type under which it was pushed
    repositories/NAME/_tags/TAG                      a manifest's digest
    repositories/NAME/_referrers/ALGORITHM/HEX/ALGORITHM:HEX
                                                     a descriptor: the second is a manifest whose subject is the first
    uploads/ID  tmp/  lock  serving.lock             uploads.py, durable.py, store.py

No component of a repository's name begins with `_`. Each step of a push leaves something valid: blob, link, referrer,
manifest, tag, in this order; deletion goes the other way. What a crash leaves between two of them is removed by gc.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Unsupported, doing
from sampan.ids import is_digest
from sampan.registry import durable
from sampan.registry.blobs import ALGORITHMS
from sampan.registry.store import Store, Stored
from sampan.spec.decoding import decode_json
from sampan.spec.distribution import Descriptor
from sampan.spec.reference import is_repository, is_tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.registry.document import Manifest

MARK = "registry.json"
VERSION = 1


class _Mark(msgspec.Struct, frozen=True):
    version: int


def create(root: str) -> None:
    """Make an empty directory ours; the mark comes last."""
    for name in ("blobs", "repositories", "uploads", "tmp"):
        durable.make_directory(f"{root}/{name}")
    durable.write(f"{root}/{MARK}", msgspec.json.encode(_Mark(VERSION)) + b"\n", f"{root}/tmp")


def open_directory(root: str) -> Store:
    """Open a directory that has the mark. Raises Unsupported for one of a later version."""
    with open(f"{root}/{MARK}", "rb") as file, doing(f"can't read {MARK}"):
        data = file.read(4096)
        try:
            mark = decode_json(data, _Mark)
        except msgspec.DecodeError as e:
            raise Unsupported(str(e)) from e
    if mark.version != VERSION:
        raise Unsupported(f"it was written by a later sampan: version {mark.version} of the form, not {VERSION}")
    return Store(root, root, Directory)


class Directory:
    """The repositories under the store's repositories/: see store.Repositories."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._root = f"{store.root}/repositories"
        self._tmp = f"{store.private}/tmp"

    def knows(self, name: str) -> bool:
        return any(os.path.isdir(f"{self._root}/{name}/{part}") for part in ("_manifests", "_blobs"))

    def names(self) -> Iterator[str]:
        for name in self.every_name():
            if any(True for _ in self.manifests(name)):
                yield name

    def every_name(self) -> Iterator[str]:
        """Give also those repositories that have no manifest."""
        waiting = [""]
        while waiting:
            name = waiting.pop()
            inner = [entry for entry in _entries(f"{self._root}/{name}") if entry.is_dir(follow_symlinks=False)]
            if any(entry.name.startswith("_") for entry in inner):
                yield name
            nested = [f"{name}/{entry.name}" if name else entry.name for entry in inner]
            waiting += [one for one in nested if is_repository(one)]

    # ---------------------------------------------------------------------------------------- blobs

    def has_blob(self, name: str, digest: str, *, used: bool = False) -> bool:
        path = self._path(name, "_blobs", digest)
        return _touch(path) if used else os.path.exists(path)

    def link_blob(self, name: str, digest: str) -> None:
        if not self.has_blob(name, digest, used=True):
            durable.write(self._path(name, "_blobs", digest), b"", self._tmp)

    def unlink_blob(self, name: str, digest: str) -> bool:
        with self._store.linking():
            return durable.remove(self._path(name, "_blobs", digest))

    def blobs(self, name: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Give the digests of the repository's blobs with the links' directory entries."""
        return self._digests(name, "_blobs")

    # ---------------------------------------------------------------------------------------- manifests

    def manifest(self, name: str, reference: str, *, used: bool = False) -> Stored | None:
        digest = reference
        if not is_digest(reference):
            digest = _read(f"{self._root}/{name}/_tags/{reference}") if is_tag(reference) else ""
            if not is_digest(digest):
                return None
        link = self._path(name, "_manifests", digest)
        media_type = _read(link)
        if not media_type or (used and not _touch(link)):
            return None
        return Stored(digest, media_type)

    def put_manifest(self, name: str, manifest: Manifest) -> None:
        if manifest.subject:
            path = f"{self._path(name, '_referrers', manifest.subject)}/{manifest.digest}"
            durable.write(path, msgspec.json.encode(manifest.listed), self._tmp)
        link = self._path(name, "_manifests", manifest.digest)
        if _read(link) != manifest.media_type or not _touch(link):
            durable.write(link, manifest.media_type.encode(), self._tmp)

    def put_tag(self, name: str, tag: str, manifest: Manifest) -> None:
        durable.write(f"{self._root}/{name}/_tags/{tag}", manifest.digest.encode(), self._tmp)

    def delete_manifest(self, name: str, digest: str) -> bool:
        if self.manifest(name, digest) is None:
            return False
        for tag in list(self.tags(name)):
            if _read(f"{self._root}/{name}/_tags/{tag}") == digest:
                self.delete_tag(name, tag)
        return durable.remove(self._path(name, "_manifests", digest))

    def manifests(self, name: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Give the digests of the repository's manifests with the links' directory entries."""
        return self._digests(name, "_manifests")

    def tags(self, name: str) -> Iterator[str]:
        for entry in _entries(f"{self._root}/{name}/_tags"):
            if is_tag(entry.name):
                yield entry.name

    def delete_tag(self, name: str, tag: str) -> bool:
        return is_tag(tag) and durable.remove(f"{self._root}/{name}/_tags/{tag}")

    # ---------------------------------------------------------------------------------------- referrers

    def referrers(self, name: str, digest: str) -> Iterator[str]:
        for entry in _entries(self._path(name, "_referrers", digest)):
            if is_digest(entry.name):
                yield entry.name

    def referrer(self, name: str, subject: str, digest: str) -> Descriptor | None:
        if self.manifest(name, digest) is None:  # it was deleted: only gc removes the entry
            return None
        try:
            with open(f"{self._path(name, '_referrers', subject)}/{digest}", "rb") as file:
                return decode_json(file.read(), Descriptor)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    # ---------------------------------------------------------------------------------------- for gc

    def is_older(self, name: str, digest: str, before: float) -> bool:
        """Tell whether a manifest has been left alone since then, and no tag names it."""
        try:
            status = os.stat(self._path(name, "_manifests", digest))
        except FileNotFoundError:
            return False
        tagged = any(_read(f"{self._root}/{name}/_tags/{tag}") == digest for tag in self.tags(name))
        return status.st_mtime < before and not tagged

    def tidy(self, name: str) -> None:
        """Remove referrers whose manifest is gone, and directories that are empty; nobody may be linking."""
        base = f"{self._root}/{name}"
        for path, _, files in os.walk(f"{base}/_referrers"):
            for file in files:
                if is_digest(file) and not os.path.exists(self._path(name, "_manifests", file)):
                    os.unlink(f"{path}/{file}")
        for part in ("_blobs", "_manifests", "_referrers", "_tags"):
            for path, _, _ in os.walk(f"{base}/{part}", topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
        while base != self._root:
            with contextlib.suppress(OSError):
                os.rmdir(base)
            base = os.path.dirname(base)

    # ---------------------------------------------------------------------------------------- files

    def _path(self, name: str, part: str, digest: str) -> str:
        algorithm, _, digits = digest.partition(":")
        return f"{self._root}/{name}/{part}/{algorithm}/{digits}"

    def _digests(self, name: str, part: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        for algorithm in ALGORITHMS:
            for entry in _entries(f"{self._root}/{name}/{part}/{algorithm}"):
                if is_digest(digest := f"{algorithm}:{entry.name}"):
                    yield digest, entry


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
        yield from entries


def _touch(path: str) -> bool:
    """Make a link look new, so that gc leaves it for a while; tell whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _read(path: str) -> str:
    """Return a small file's text, "" where it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read(4096).decode("ascii", "replace")
    except FileNotFoundError:
        return ""
