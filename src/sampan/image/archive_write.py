"""Archives of images, as they are written: docker-archive as Docker's `save` has it since version 25, and oci-archive.

Both are a tar of an OCI layout; the first has manifest.json and `repositories` too, which older readers want. A layer
of several images is there once. The archive goes out as it is made, to a pipe as well; nothing in it depends on the
clock, so the same images make the same bytes.
"""

from __future__ import annotations

import tempfile
import threading
from typing import TYPE_CHECKING, Protocol

import msgspec

from sampan.errors import Failed, doing
from sampan.image import files, tar
from sampan.image.layout import MARK, NAME
from sampan.image.manifest import encode_index, image_of
from sampan.image.tarwrite import END, header, padding
from sampan.image.transfer import Found
from sampan.spec.distribution import Descriptor, Index
from sampan.spec.image import SavedImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from sampan.image.manifest import Document
    from sampan.image.transfer import Opener
    from sampan.spec.reference import Reference

_CONTAINERD_NAME = "io.containerd.image.name"


class Writable(Protocol):
    """What an archive is written to."""

    def write(self, data: bytes, /) -> object:
        """Write all of it."""

    def direct(self, size: int, /) -> AbstractContextManager[int]:
        """Give a descriptor to which somebody else, a worker, writes the next `size` bytes."""


class ArchiveWriter:
    """An archive that images are written to, one after another. `scratch` is a directory for blobs of unknown size."""

    def __init__(self, out: Writable, *, docker: bool, scratch: str) -> None:
        self._out = out
        self.docker = docker
        self._scratch = scratch
        self._lock = threading.Lock()
        self._blobs: set[str] = set()
        self._entries: list[Descriptor] = []
        self._items: list[SavedImage] = []
        self._repositories: dict[str, dict[str, str]] = {}

    def image(self, references: Sequence[Reference] = (), name: str = "") -> ArchiveImage:
        """Begin an image of these references, or of this name: that is any text, in oci-archives only."""
        return ArchiveImage(self, references, name)

    def close(self) -> None:
        """Write what says which blobs belong together, and the archive's end."""
        self._member("oci-layout", MARK)
        self._member("index.json", encode_index(Index(schema_version=2, manifests=tuple(self._entries))))
        if self.docker:
            self._member("manifest.json", msgspec.json.encode(self._items))
            self._member("repositories", msgspec.json.encode(self._repositories))
        self._out.write(END)

    # ------------------------------------------------------------------------------------- for ArchiveImage

    def has(self, digest: str) -> bool:
        """Whether a blob was written already."""
        return digest in self._blobs

    def blob(self, open: Opener, digest: str | None, size: int | None) -> Descriptor:
        """Write a blob. Its header comes before it: where its digest or size is not known, it goes to a file first."""
        if digest is None or size is None:
            with tempfile.TemporaryFile(dir=self._scratch, buffering=0) as file:
                made = files.write_pieces(file, open(0), digest)
                return self.blob(lambda at: files.pieces_of(file, at), made.digest, made.size)
        with self._lock:
            if digest not in self._blobs:
                self._stream(_path(digest), open(0), size)
                self._blobs.add(digest)
        return Descriptor(media_type="", digest=digest, size=size)

    def blob_by(self, write: Callable[[int], object], digest: str, size: int) -> None:
        """Have somebody else write a blob, to the descriptor that it is given."""
        with self._lock:
            if digest not in self._blobs:
                self._out.write(_header(_path(digest), size))
                with self._out.direct(size) as fd:
                    write(fd)
                self._out.write(padding(size))
                self._blobs.add(digest)

    def add(self, document: Document, references: Sequence[Reference], name: str) -> None:
        """Note an image, all of which was written."""
        entry = document.descriptor()
        names: list[dict[str, str] | None] = [{_CONTAINERD_NAME: str(r), NAME: r.tag or ""} for r in references]
        if not names:
            names = [{NAME: name} if name else None]
        self._entries += [msgspec.structs.replace(entry, annotations=annotations) for annotations in names]
        if self.docker:
            self._add_docker(document, references)

    def _add_docker(self, document: Document, references: Sequence[Reference]) -> None:
        manifest = image_of(document)
        layers = tuple(layer.digest for layer in manifest.layers)
        tags = tuple(reference.familiar() for reference in references)
        item = SavedImage(
            config=_path(manifest.config.digest), repo_tags=tags or None, layers=tuple(map(_path, layers))
        )
        self._items.append(item)
        for reference in references:
            if layers and reference.tag:
                top = layers[-1].partition(":")[2]
                self._repositories.setdefault(reference.familiar_name(), {})[reference.tag] = top

    def _member(self, name: str, data: bytes) -> None:
        self._out.write(_header(name, len(data)) + data + padding(len(data)))

    def _stream(self, name: str, pieces: Iterable[bytes], size: int) -> None:
        count = 0
        self._out.write(_header(name, size))
        for piece in pieces:
            count += len(piece)
            self._out.write(piece)
        if count != size:
            raise Failed(f"can't write {name}: it has {count} bytes and should have {size}")
        self._out.write(padding(size))


class ArchiveImage:
    """One image of an archive that is being written: a sink."""

    at_once = 1
    holds_indexes = True

    def __init__(self, writer: ArchiveWriter, references: Sequence[Reference], name: str) -> None:
        self._writer = writer
        self._references = references
        self._name = name
        self.holds_indexes = not writer.docker

    def find(self, blob: Descriptor, origins: Sequence[str] = ()) -> Found | None:  # noqa: ARG002
        """Whether a blob was written already."""
        return Found() if self._writer.has(blob.digest) else None

    def put_blob(self, open: Opener, digest: str | None, size: int | None) -> Descriptor:
        """Write a blob."""
        with doing("can't write the archive"):
            return self._writer.blob(open, digest, size)

    def put_blob_by(self, write: Callable[[int], object], digest: str, size: int) -> Descriptor:
        """Have a blob of known digest and size written by somebody else, to the descriptor that it is given."""
        with doing("can't write the archive"):
            self._writer.blob_by(write, digest, size)
        return Descriptor(media_type="", digest=digest, size=size)

    def put_manifest(self, document: Document) -> None:
        """Write a manifest, which is a blob like others."""
        self.put_blob(lambda at: iter((document.raw[at:],)), document.digest, len(document.raw))

    def finish(self, document: Document) -> None:
        """Write the manifest, and note the image under its names."""
        self.put_manifest(document)
        self._writer.add(document, self._references, self._name)


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _header(name: str, size: int) -> bytes:
    return header(tar.Entry(name.encode(), tar.REGULAR, 0o644, 0, 0, size, 0))
