"""OCI image layouts: directories of blobs by digest, and an index.json that says what they are called.

umoci, skopeo and others may work in the same directory: a blob gets its name when it is whole, and index.json is
replaced whole under a lock on the directory. Source: OCI image specification, image-layout.md.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Conflict, InvalidInput, NotFound, doing
from sampan.ids import check_digest
from sampan.image import files, platforms
from sampan.image.manifest import Document, encode_index
from sampan.image.transfer import LARGEST_DOCUMENT, Found
from sampan.kernel.newfile import new_file
from sampan.spec.decoding import decode_document
from sampan.spec.distribution import Descriptor, Index, choose, decode_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sampan.image.transfer import Opener

NAME = "org.opencontainers.image.ref.name"
MARK = b'{"imageLayoutVersion":"1.0.0"}'


class _Mark(msgspec.Struct, frozen=True, rename="camel"):
    image_layout_version: str


def name_of(entry: Descriptor) -> str:
    """What a layout's index calls an image; "" if it has no name."""
    return (entry.annotations or {}).get(NAME, "")


def select(index: Index, name: str) -> Descriptor:
    """Return the image of this name, or as @N the one at this place; "" is the only one. Raises NotFound."""
    entries = index.manifests
    names = ", ".join(filter(None, map(name_of, entries))) or "none has a name: @0, @1 …"
    if name.startswith("@") and name[1:].isdecimal() and int(name[1:]) < len(entries):
        return entries[int(name[1:])]
    if name:
        entries = tuple(entry for entry in entries if name_of(entry) == name)
    if len(entries) > 1 and name and (chosen := choose(entries, platforms.own())):
        return chosen
    if len(entries) == 1:
        return entries[0]
    raise NotFound(f"there is no image {name}" if name else f"there are {len(entries)} images", f"name one of: {names}")


class Layout:
    """One image in a layout, by its name there; "" is the only one when read, and has no name when written."""

    repository: str | None = None
    at_once = 4
    holds_indexes = True

    def __init__(self, path: str, name: str = "") -> None:
        self._path = path
        self._name = name

    @classmethod
    def opened(cls, path: str, name: str = "") -> Layout:
        """Open a layout that is there."""
        layout = cls(path, name)
        with doing(f"can't read layout {path}"):
            layout._check()
        return layout

    @classmethod
    def made(cls, path: str, name: str = "") -> Layout:
        """Open a layout, or make it: in an empty directory, or in one that isn't there."""
        layout = cls(path, name)
        with doing(f"can't write layout {path}"):
            os.makedirs(path, exist_ok=True)
            if os.path.exists(f"{path}/oci-layout"):
                layout._check()
            elif os.listdir(path):
                raise Conflict("the directory is no layout, and is not empty", "name another, or an empty one")
            os.makedirs(f"{path}/blobs/sha256", exist_ok=True)
            with layout._locked():
                if not os.path.exists(f"{path}/oci-layout"):
                    layout._replace("oci-layout", MARK)
                if not os.path.exists(f"{path}/index.json"):
                    layout._write_index(Index(schema_version=2))
        return layout

    # ------------------------------------------------------------------------------------------------ a source

    def document(self, digest: str | None = None) -> Document:
        """The manifest or index of this digest, verified; None: the one of the name."""
        with doing(f"can't read layout {self._path}"):
            if digest is None:
                return self._named()
            raw = files.read_document(self._blob(digest), LARGEST_DOCUMENT)
            return Document.verified(raw, digest)

    def blob(self, blob: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a blob, from an offset on. They are not verified."""
        with doing(f"can't read layout {self._path}"):
            yield from files.read_blob(self._blob(blob.digest), offset)

    def _named(self) -> Document:
        entry = select(self._index(), self._name)
        raw = files.read_document(self._blob(entry.digest), LARGEST_DOCUMENT)
        return Document.verified(raw, entry.digest, entry.media_type)

    # ------------------------------------------------------------------------------------------------ a sink

    def find(self, blob: Descriptor, origins: Sequence[str] = ()) -> Found | None:  # noqa: ARG002
        """Whether a blob is there."""
        return Found() if files.has_file(self._blob(blob.digest), blob.size) else None

    def put_blob(self, open: Opener, digest: str | None, size: int | None) -> Descriptor:  # noqa: ARG002
        """Write a blob."""
        algorithm = check_digest(digest).partition(":")[0] if digest else "sha256"
        with doing(f"can't write layout {self._path}"):
            os.makedirs(f"{self._path}/blobs/{algorithm}", exist_ok=True)
            return files.write_blob(f"{self._path}/blobs/{algorithm}", open, digest)

    def put_manifest(self, document: Document) -> None:
        """Write a manifest, which is a blob like others."""
        if self.find(document.descriptor()) is None:
            self.put_blob(lambda at: iter((document.raw[at:],)), document.digest, len(document.raw))

    def finish(self, document: Document) -> None:
        """Write the manifest and have index.json name it; another one that had the name has none any more."""
        self.put_manifest(document)
        with doing(f"can't write layout {self._path}"), self._locked():
            index = self._index()
            annotations = {NAME: self._name} if self._name else None
            entry = msgspec.structs.replace(document.descriptor(), annotations=annotations)
            rest = tuple(other for other in index.manifests if not self._is_replaced(other, entry))
            self._write_index(msgspec.structs.replace(index, manifests=(*rest, entry)))

    def _is_replaced(self, other: Descriptor, by: Descriptor) -> bool:
        return name_of(other) == self._name and (bool(self._name) or other.digest == by.digest)

    # ------------------------------------------------------------------------------------------------ files

    def _check(self) -> None:
        try:
            raw = files.read_document(f"{self._path}/oci-layout", LARGEST_DOCUMENT)
        except FileNotFoundError:
            raise NotFound("it has no file oci-layout", "name the directory that has it") from None
        mark = decode_document(raw, _Mark, "oci-layout")
        if not mark.image_layout_version.startswith("1."):
            raise InvalidInput(f"it is of version {mark.image_layout_version[:20]}, and only 1.x is understood")

    def _index(self) -> Index:
        raw = files.read_document(f"{self._path}/index.json", LARGEST_DOCUMENT)
        index = decode_manifest(raw)
        if not isinstance(index, Index):
            raise InvalidInput("index.json is no index")
        return index

    def _write_index(self, index: Index) -> None:
        self._replace("index.json", encode_index(index))

    def _replace(self, name: str, data: bytes) -> None:
        with new_file(f"{self._path}/{name}") as new:
            new.write(data)
            os.fsync(new.file.fileno())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _blob(self, digest: str) -> str:
        algorithm, _, digits = check_digest(digest).partition(":")
        return f"{self._path}/blobs/{algorithm}/{digits}"
