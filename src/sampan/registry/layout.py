"""An OCI layout as a registry: what skopeo, umoci, podman and buildah write as `oci:DIRECTORY:TAG`.

    oci-layout  index.json  blobs/ALGORITHM/HEX      as the image specification has it
    .sampan/                                         ours, where it is written to: uploads, tmp, locks

A layout has one list of manifests, each with at most one reference name, and one set of blobs. So:

    reference name           repository   tag
    v1                       NAME         v1      NAME is --name, or the directory's
    team/app:v1              team/app     v1
    quay.io/team/app:v1      team/app     v1      a registry's host is left out
    team/app@sha256:…        team/app     none
    none, or anything else   NAME         none

`io.containerd.image.name`, which docker writes, counts before the reference name where that is a mere tag. Every blob
is in every repository. A manifest is there if index.json leads to it.
"""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.errors import Failed, InvalidInput, Unsupported
from sampan.ids import is_digest
from sampan.registry import document, durable
from sampan.registry.refusal import Refusal
from sampan.registry.store import Store, Stored
from sampan.spec.decoding import convert, decode_json
from sampan.spec.distribution import Descriptor, MediaType
from sampan.spec.reference import is_repository, is_tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.registry.document import Manifest

REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_LONGEST_INDEX = 64 << 20
_DEEPEST = 8
_SEPARATORS = re.compile(r"[^a-z0-9]+")


class _Mark(msgspec.Struct, frozen=True, rename="camel"):
    image_layout_version: str


class _View:
    """What one state of index.json says, by repository."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, str]] = {}
        self.manifests: dict[str, dict[str, Stored]] = {}
        self.needed: set[str] = set()  # digests that some manifest leads to
        self.unread: set[str] = set()  # what may lead to more, and can't be understood
        self.listed: dict[tuple[str, str], dict[str, Descriptor]] = {}  # repository and subject to referrers

    def repository(self, name: str) -> dict[str, Stored]:
        self.tags.setdefault(name, {})
        return self.manifests.setdefault(name, {})


def open_layout(root: str, name: str) -> Store:
    """Open a layout. Raises InvalidInput, Unsupported."""
    with open(f"{root}/oci-layout", "rb") as file:
        try:
            version = decode_json(file.read(4096), _Mark).image_layout_version
        except msgspec.DecodeError as e:
            raise InvalidInput(f"its file oci-layout can't be read: {e}") from e
    if version != "1.0.0":
        raise Unsupported(f"it is a layout of version {version[:20]!r}; 1.0.0 is understood")
    if name and not is_repository(name):
        raise InvalidInput(f"{name!r} can't be a repository", "lower-case letters, digits, and . _ - / between them")
    return Store(root, f"{root}/.sampan", lambda store: Layout(store, name or name_of(root)))


def name_of(root: str) -> str:
    """Return the repository that a directory's name makes: `My Layout.d` is my-layout.d."""
    name = _SEPARATORS.sub(lambda found: found[0] if found[0] in ".__" else "-", os.path.basename(root).lower())
    return name.strip("._-") if is_repository(name.strip("._-")) else "image"


def place(annotations: Mapping[str, str], default: str) -> tuple[str, str | None]:
    """Return the repository and the tag of an entry of index.json."""
    ref = annotations.get(REF_NAME, "")
    if (not ref or is_tag(ref)) and (full := _split(annotations.get(_CONTAINERD_NAME, ""))):
        return full
    if is_tag(ref):
        return default, ref
    return _split(ref) or (default, None)


def _split(ref: str) -> tuple[str, str | None] | None:
    """Return repository and tag of a whole name, None where it is none."""
    name, at, digest = ref.partition("@")
    if at and not is_digest(digest):
        return None
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, ""
    if (not tag and not at) or (tag and not is_tag(tag)):
        return None
    host, slash, rest = head.partition("/")
    if slash and _is_host(host):
        head = rest
    return (head, tag or None) if is_repository(head) else None


def _is_host(component: str) -> bool:
    return "." in component or ":" in component or component == "localhost"


class Layout:
    """The repositories of a layout: see store.Repositories."""

    def __init__(self, store: Store, default: str) -> None:
        self._store = store
        self._root = store.root
        self._default = default
        self._lock = threading.Lock()
        self._seen: object = None
        self._view = _View()
        self.view()  # what can't be read is said now

    def knows(self, name: str) -> bool:
        return name == self._default or name in self.view().manifests

    def names(self) -> Iterator[str]:
        yield from (name for name, manifests in self.view().manifests.items() if manifests)

    # ---------------------------------------------------------------------------------------- blobs

    def has_blob(self, name: str, digest: str, *, used: bool = False) -> bool:  # noqa: ARG002 one set for all
        return self._store.blobs.touch(digest) if used else self._store.blobs.size(digest) is not None

    def link_blob(self, name: str, digest: str) -> None:
        """Nothing is to be done: a blob that is there is in every repository."""

    def unlink_blob(self, name: str, digest: str) -> bool:  # noqa: ARG002
        with self._store.removing():
            if digest in self.view().needed:
                raise Refusal("UNSUPPORTED", "a manifest of this layout needs the blob")
            return self._store.blobs.remove(digest)

    # ---------------------------------------------------------------------------------------- manifests

    def manifest(self, name: str, reference: str, *, used: bool = False) -> Stored | None:
        view = self.view()
        digest = reference if is_digest(reference) else view.tags.get(name, {}).get(reference, "")
        stored = view.manifests.get(name, {}).get(digest)
        if stored and used:
            self._store.blobs.touch(digest)
        return stored

    def put_manifest(self, name: str, manifest: Manifest) -> None:
        if name != self._default and "/" in name and _is_host(name.partition("/")[0]):
            raise Refusal("NAME_INVALID", "a layout can't hold a name that begins like a registry's host")
        with self._lock:
            entries = self._entries()
            if not any((self._place(e)[0], e["digest"]) == (name, manifest.digest) for e in entries):
                self._save([*entries, self._new(name, None, manifest)])

    def put_tag(self, name: str, tag: str, manifest: Manifest) -> None:
        with self._lock:
            kept = []
            for entry in self._entries():
                if self._place(entry) == (name, tag):
                    entry = self._untagged(entry)  # noqa: PLW2901 the manifest that had the tag stays
                if (entry["digest"], self._place(entry)) != (manifest.digest, (name, None)):
                    kept.append(entry)
            self._save([*kept, self._new(name, tag, manifest)])

    def _new(self, name: str, tag: str | None, manifest: Manifest) -> dict[str, Any]:
        one = Descriptor(media_type=manifest.media_type, digest=manifest.digest, size=len(manifest.data))
        return _named(msgspec.to_builtins(one), self._ref_name(name, tag, manifest.digest))

    def delete_manifest(self, name: str, digest: str) -> bool:
        with self._lock:
            entries = self._entries()
            kept = [e for e in entries if (self._place(e)[0], e["digest"]) != (name, digest)]
            if len(kept) != len(entries):
                self._save(kept)
                return True
        if self.manifest(name, digest):
            raise Refusal("UNSUPPORTED", "the manifest is part of an index: delete that one")
        return False

    def tags(self, name: str) -> Iterator[str]:
        yield from self.view().tags.get(name, {})

    def delete_tag(self, name: str, tag: str) -> bool:
        with self._lock:
            entries = self._entries()
            found = [e for e in entries if self._place(e) == (name, tag)]
            kept = [e for e in entries if e not in found]
            for entry in found:
                if not any((self._place(e)[0], e["digest"]) == (name, entry["digest"]) for e in kept):
                    kept.append(self._untagged(entry))
            if found:
                self._save(kept)
            return bool(found)

    # ---------------------------------------------------------------------------------------- referrers

    def referrers(self, name: str, digest: str) -> Iterator[str]:
        yield from self.view().listed.get((name, digest), {})

    def referrer(self, name: str, subject: str, digest: str) -> Descriptor | None:
        return self.view().listed.get((name, subject), {}).get(digest)

    def remove_untagged(self, before: float, *, dry_run: bool) -> int:
        """Remove the entries without a tag that have been left alone since then; return how many."""
        with self._store.removing(), self._lock:
            entries = self._entries()
            view = self._read(entries)
            attached = {
                digest
                for (name, subject), listed in view.listed.items()
                for digest in listed
                if subject in view.manifests[name]
            }
            gone = [
                e
                for e in entries
                if self._place(e)[1] is None and e["digest"] not in attached and self._is_older(e["digest"], before)
            ]
            if gone and not dry_run:
                self._save([e for e in entries if e not in gone])
            return len(gone)

    def _is_older(self, digest: str, before: float) -> bool:
        try:
            return is_digest(digest) and os.stat(self._store.blobs.path(digest)).st_mtime < before
        except FileNotFoundError:
            return True

    # ---------------------------------------------------------------------------------------- index.json

    def view(self) -> _View:
        """Return what index.json says now, or said before another program began to write it. Raises Failed."""
        path = f"{self._root}/index.json"
        status = os.stat(path)
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:
            if seen != self._seen:
                try:
                    self._view = self._read(self._entries())
                    self._seen = seen
                except Failed:
                    if self._seen is None:
                        raise
            return self._view

    def _entries(self) -> list[dict[str, Any]]:
        return list(self._document()["manifests"])

    def _document(self) -> dict[str, Any]:
        """Return index.json as it is, with what we don't know."""
        with open(f"{self._root}/index.json", "rb") as file:
            data = file.read(_LONGEST_INDEX + 1)
        try:
            if len(data) > _LONGEST_INDEX:
                raise Failed("index.json is too large")
            found: dict[str, Any] = decode_json(data, dict[str, Any])
            convert(found.setdefault("manifests", []), list[Descriptor])
        except (msgspec.DecodeError, RecursionError) as e:
            raise Failed(f"index.json can't be read: {e}") from e
        return found

    def _save(self, entries: list[dict[str, Any]]) -> None:
        whole = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, **self._document(), "manifests": entries}
        durable.write(f"{self._root}/index.json", msgspec.json.encode(whole), f"{self._store.private}/tmp")

    def _place(self, entry: Mapping[str, Any]) -> tuple[str, str | None]:
        return place(entry.get("annotations") or {}, self._default)

    def _untagged(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        return _named(entry, self._ref_name(self._place(entry)[0], None, entry["digest"]))

    def _ref_name(self, name: str, tag: str | None, digest: str) -> str | None:
        if name == self._default:
            return tag
        return f"{name}:{tag}" if tag else f"{name}@{digest}"

    def _read(self, entries: list[dict[str, Any]]) -> _View:
        view = _View()
        for entry in entries:
            name, tag = self._place(entry)
            one = convert(entry, Descriptor)
            if not is_digest(one.digest):
                view.unread.add(one.digest)
                continue
            view.repository(name)
            if tag:
                view.tags[name].setdefault(tag, one.digest)
            self._follow(view, name, one, _DEEPEST)
        return view

    def _follow(self, view: _View, name: str, one: Descriptor, deepest: int) -> None:
        """Put down a manifest, and those that it leads to."""
        manifests = view.repository(name)
        if one.digest in manifests:
            return
        if deepest == 0 or not is_digest(one.digest):
            view.unread.add(one.digest)
            return
        view.needed.add(one.digest)
        if self._store.blobs.size(one.digest) is None:  # an index may name what is elsewhere
            return
        manifests[one.digest] = Stored(one.digest, one.media_type)
        data = self._store.blobs.read(one.digest, document.LONGEST)
        found = document.references(data) if data is not None else None
        if data is None or found is None:
            view.unread.add(one.digest)
            return
        blobs = (found.config, *(found.layers or ()), *(found.blobs or ()), *(found.manifests or ()))
        view.needed.update(blob.digest for blob in blobs if blob)
        if found.subject:
            listed = document.listed(found, one.media_type, one.digest, len(data))
            view.listed.setdefault((name, found.subject.digest), {})[one.digest] = listed
        for child in found.manifests or ():
            self._follow(view, name, child, deepest - 1)


def _named(entry: Mapping[str, Any], ref: str | None) -> dict[str, Any]:
    """Return an entry under another reference name, or under none."""
    annotations = {k: v for k, v in (entry.get("annotations") or {}).items() if k not in (REF_NAME, _CONTAINERD_NAME)}
    if ref:
        annotations[REF_NAME] = ref
    rest = {k: v for k, v in entry.items() if k != "annotations"}
    return {**rest, "annotations": annotations} if annotations else rest
