"""Garbage collection: mark what is linked, sweep the rest. It may run while the directory is served.

Why that is safe. Whoever links a blob (a push, a mount) first sets its time of modification to now, and does both with
`lock` held shared (Store.linking). The collector notes the time, then marks, then removes under `lock` held alone, each
time looking again: an unmarked blob goes only if its time is still before the marking began. A link made before was
seen; one made after has made the blob look new. The same holds for the links that no manifest needs: they go only if
they have been left alone for `older_s`, and a client that asks whether the blob is there (HEAD) makes them look new.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import Failed
from sampan.ids import is_digest, new_id
from sampan.registry import document
from sampan.registry.directory import Directory
from sampan.registry.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.registry.store import Store

STALE_S = 86400
"""Seconds after which an upload to which nothing is added is given up."""


class Collected(NamedTuple):
    """What was removed, or would be."""

    blobs: int = 0
    size: int = 0
    links: int = 0
    manifests: int = 0
    uploads: int = 0


class Settings(NamedTuple):
    """What is garbage."""

    older_s: float = 3600
    untagged: bool = False  # also manifests that no tag leads to
    dry_run: bool = False


def collect(store: Store, settings: Settings, say: Callable[[str], None]) -> Collected:
    """Remove what nothing leads to; tell `say` of each thing by a line. Raises SampanError, OSError."""
    now = _now(store)
    uploads = 0 if settings.dry_run else store.uploads.remove_stale(STALE_S)
    before = now - settings.older_s
    repositories = store.repositories
    if isinstance(repositories, Directory):
        pruning = _Pruning(store, repositories, settings, before, say)
        for name in list(repositories.every_name()):
            pruning.prune(name)
        blobs, size = _sweep(store, pruning.marked, now, settings, say)
        return Collected(blobs, size, pruning.links, pruning.manifests, uploads)
    assert isinstance(repositories, Layout)
    manifests = repositories.remove_untagged(before, dry_run=settings.dry_run) if settings.untagged else 0
    view = repositories.view()
    if view.unread:
        raise Failed(f"nothing can tell what {min(view.unread)} needs: it is no manifest that is understood")
    # There are no links in a layout: a blob whose manifest is still on its way is known by its age only.
    blobs, size = _sweep(store, view.needed, before, settings, say)
    return Collected(blobs, size, 0, manifests, uploads)


def _now(store: Store) -> float:
    """Return the time as files get it: the kernel's clock for that lags behind time(2) by up to a tick."""
    path = f"{store.private}/tmp/{new_id()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    try:
        return os.stat(path).st_mtime
    finally:
        os.unlink(path)


def _sweep(
    store: Store, marked: set[str], before: float, settings: Settings, say: Callable[[str], None]
) -> tuple[int, int]:
    """Remove the blobs that are not marked and older; return how many, and their bytes."""
    count = size = 0
    for digest, entry in store.blobs.all():
        if digest in marked or not is_digest(digest):
            continue
        with store.removing():
            status = _status(entry.path)
            if status is None or status.st_mtime >= before:
                continue
            if not settings.dry_run:
                os.unlink(entry.path)
        say(f"blob {digest}")
        count += 1
        size += status.st_size
    return count, size


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:  # it was deleted meanwhile
        return None


class _Needs(NamedTuple):
    """What a manifest names: all of it, the manifests of an index, the subject."""

    needs: tuple[str, ...]
    children: tuple[str, ...]
    subject: str | None


class _Pruning:
    """Removes what no manifest of its repository needs, and marks what is left."""

    def __init__(
        self, store: Store, directory: Directory, settings: Settings, before: float, say: Callable[[str], None]
    ) -> None:
        self.marked: set[str] = set()
        self.links = 0
        self.manifests = 0
        self._store = store
        self._directory = directory
        self._settings = settings
        self._before = before
        self._say = say

    def prune(self, name: str) -> None:
        manifests = {digest: self._look_into(digest) for digest, _ in self._directory.manifests(name)}
        if self._settings.untagged:
            for digest in set(manifests) - self._tagged(name, manifests):
                if self._remove_manifest(name, digest):
                    del manifests[digest]
        needed = {digest for found in manifests.values() if found for digest in found.needs}
        whole = all(manifests.values())  # of a manifest whose bytes are gone nobody knows what it needs
        for digest, entry in list(self._directory.blobs(name)):
            if digest in needed or not whole or not self._remove_link(name, digest, entry):
                self.marked.add(digest)
        self.marked.update(manifests)
        if not self._settings.dry_run:
            with self._store.removing():
                self._directory.tidy(name)

    def _look_into(self, digest: str) -> _Needs | None:
        data = self._store.blobs.read(digest, document.LONGEST)
        found = document.references(data) if data is not None else None
        if found is None:
            return None
        blobs = (found.config, *(found.layers or ()), *(found.blobs or ()))
        children = tuple(child.digest for child in found.manifests or ())
        needs = (*children, *(blob.digest for blob in blobs if blob))
        return _Needs(needs, children, found.subject.digest if found.subject else None)

    def _tagged(self, name: str, manifests: dict[str, _Needs | None]) -> set[str]:
        """Return the manifests that a tag leads to: itself, those in its index, and what is attached to one of them."""
        tags = (self._directory.manifest(name, tag) for tag in self._directory.tags(name))
        kept: set[str] = set()
        waiting = [stored.digest for stored in tags if stored]
        attached: dict[str, list[str]] = {}
        for digest, found in manifests.items():
            if found and found.subject:
                attached.setdefault(found.subject, []).append(digest)
        while waiting:
            digest = waiting.pop()
            if digest in kept:
                continue
            kept.add(digest)
            waiting += attached.get(digest, ())
            if found := manifests.get(digest):
                waiting += found.children
        return kept

    def _remove_manifest(self, name: str, digest: str) -> bool:
        with self._store.removing():
            if not self._directory.is_older(name, digest, self._before):
                return False
            if not self._settings.dry_run:
                self._directory.delete_manifest(name, digest)
        self._say(f"manifest {name}@{digest}")
        self.manifests += 1
        return True

    def _remove_link(self, name: str, digest: str, entry: os.DirEntry[str]) -> bool:
        with self._store.removing():
            status = _status(entry.path)
            if status is None:
                return True
            if status.st_mtime >= self._before:
                return False
            if not self._settings.dry_run:
                os.unlink(entry.path)
        self._say(f"link {name}@{digest}")
        self.links += 1
        return True
