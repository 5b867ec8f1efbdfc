"""One image of an archive file, read at any place of it: for copies, where nothing is unpacked.

`archive` reads an archive as it comes, into the store. Here its members are looked up first, and nothing of them is
kept; a compressed archive is written out to a nameless file before that.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import tempfile
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING

from sampan.errors import InvalidInput, NotFound, doing
from sampan.ids import check_digest
from sampan.image import files, tar
from sampan.image.compression import decompressed_within, kind_of
from sampan.image.layout import select
from sampan.image.manifest import Document, Format, image_manifest, layer_type
from sampan.image.transfer import LARGEST_DOCUMENT
from sampan.spec.decoding import decode_document
from sampan.spec.distribution import Descriptor, Index, decode_manifest
from sampan.spec.image import LayerLimits, SavedImage, decode_config
from sampan.spec.location import Transport
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.spec.location import Location

_PIECE = 1 << 16
_MOST_MEMBERS = 100_000


class _Members:
    """The regular files of a tar by name: where their bytes are."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        reader = _SeekingReader(self.file)
        while (entry := reader.next_entry()) is not None:
            name = _normal(entry.name.decode(errors="backslashreplace"))
            target = entry.link.decode(errors="backslashreplace")
            if entry.kind == tar.REGULAR and entry.regions is None:
                self._places[name] = (reader.offset, entry.size)
            elif entry.kind == tar.SYMLINK:
                self._links[name] = _normal(posixpath.join(posixpath.dirname(name), target))
            elif entry.kind == tar.LINK:
                self._links[name] = _normal(target)
            if len(self._places) + len(self._links) > _MOST_MEMBERS:
                raise InvalidInput("it has too many members to be an archive of images")
        if not reader.ended:
            raise InvalidInput("the archive is cut short", "it was not written or sent to its end")

    def place(self, name: str) -> tuple[int, int]:
        """Where a member begins and ends. Raises InvalidInput."""
        name = _normal(name)
        for _ in range(len(self._links) + 1):
            if name in self._places:
                start, size = self._places[name]
                return start, start + size
            if name not in self._links:
                raise InvalidInput(f"the archive has no {name}")
            name = self._links[name]
        raise InvalidInput(f"{name} is a link to itself")

    def pieces(self, name: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a member, from an offset on."""
        start, end = self.place(name)
        return files.pieces_of(self.file, start + offset, end)

    def document(self, name: str) -> bytes:
        """A small member."""
        start, end = self.place(name)
        if end - start > LARGEST_DOCUMENT:
            raise InvalidInput(f"{name} has {end - start} bytes")
        return b"".join(self.pieces(name))


@contextmanager
def opened(
    location: Location,
    scratch: str,
    limits: LayerLimits = LayerLimits(),  # noqa: B008  # frozen
) -> Iterator[OciArchive | DockerArchive]:
    """Open the image of an archive. `scratch` is a directory for what a compressed one has in it."""
    path = location.path
    with ExitStack() as cleanup:
        with doing(f"can't read archive {path}"):
            file = cleanup.enter_context(_plain(cleanup.enter_context(files.open_regular(path)), scratch, limits))
            kind = DockerArchive if location.transport is Transport.DOCKER_ARCHIVE else OciArchive
            archive = kind(path, location.name, _Members(file))
        yield archive


class OciArchive:
    """An image of an oci-archive, by its name there; "" is the only one."""

    repository: str | None = None

    def __init__(self, path: str, name: str, members: _Members) -> None:
        self._path = path
        self._name = name
        self._members = members

    def document(self, digest: str | None = None) -> Document:
        """The manifest or index of this digest, verified; None: the one of the name."""
        with doing(f"can't read archive {self._path}"):
            media_type = None
            if digest is None:
                index = decode_manifest(self._members.document("index.json"))
                if not isinstance(index, Index):
                    raise InvalidInput("index.json is no index")
                entry = select(index, self._name)
                digest, media_type = entry.digest, entry.media_type
            return Document.verified(self._members.document(_blob(digest)), digest, media_type)

    def blob(self, blob: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a blob, from an offset on. They are not verified."""
        with doing(f"can't read archive {self._path}"):
            yield from self._members.pieces(_blob(blob.digest), offset)


class DockerArchive:
    """An image of a docker-archive, by its reference or as @N; "" is the only one.

    Such an archive has no manifest that a digest could name: it is made here, of the layers as they are.
    """

    repository: str | None = None

    def __init__(self, path: str, name: str, members: _Members) -> None:
        self._path = path
        self._members = members
        self._names: dict[str, str] = {}
        item = self._item(name)
        self._config = members.document(item.config)
        layers, diff_ids = item.layers or (), decode_config(self._config).diff_ids
        if len(layers) != len(diff_ids):
            raise InvalidInput(f"{len(layers)} layers, and the configuration has {len(diff_ids)}")
        described = [self._layer(layer, diff_id) for layer, diff_id in zip(layers, diff_ids, strict=True)]
        self._document = image_manifest(self._config, described, Format.OCI)

    def document(self, digest: str | None = None) -> Document:
        """The image's manifest."""
        if digest not in (None, self._document.digest):
            raise InvalidInput(f"can't read archive {self._path}: it has no manifest {digest}")
        return self._document

    def blob(self, blob: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a layer or of the configuration, from an offset on. They are not verified."""
        with doing(f"can't read archive {self._path}"):
            if blob.digest not in self._names:
                yield self._config[offset:]
            else:
                yield from self._members.pieces(self._names[blob.digest], offset)

    def _item(self, name: str) -> SavedImage:
        document = self._members.document("manifest.json")
        items = decode_document(document, tuple[SavedImage, ...], "manifest.json")
        names = [tag for item in items for tag in item.repo_tags or ()]
        if name.startswith("@") and name[1:].isdecimal() and int(name[1:]) < len(items):
            return items[int(name[1:])]
        if name:
            wanted = Reference.parse(name)
            items = tuple(item for item in items if wanted in [Reference.parse(tag) for tag in item.repo_tags or ()])
        if len(items) == 1:
            return items[0]
        raise NotFound(
            f"there is no image {name}" if name else f"there are {len(items)} images",
            f"name one of: {', '.join(names) or 'none has a name'}; or @0, @1 …",
        )

    def _layer(self, name: str, diff_id: str) -> Descriptor:
        start, end = self._members.place(name)
        kind = kind_of(os.pread(self._members.file.fileno(), 16, start))
        digest = check_digest(diff_id)
        if kind != "none":
            # Nothing says the digest of what is compressed.
            hash = hashlib.sha256()
            for piece in self._members.pieces(name):
                hash.update(piece)
            digest = f"sha256:{hash.hexdigest()}"
        self._names[digest] = name
        return Descriptor(media_type=layer_type(Format.OCI, kind), digest=digest, size=end - start)


class _SeekingReader(tar.Reader):
    """Goes over the members' bodies without reading them."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(iter(lambda: file.read(_PIECE), b""))
        self._file = file

    @property
    def offset(self) -> int:
        """Where in the file the body of the last member begins."""
        return self._file.tell() - (len(self._chunk) - self._position)

    def _skip(self, size: int) -> None:
        available = len(self._chunk) - self._position
        if size > available:
            self._file.seek(size - available, os.SEEK_CUR)
            self._position = len(self._chunk)
        else:
            self._position += size


@contextmanager
def _plain(file: IO[bytes], scratch: str, limits: LayerLimits) -> Iterator[IO[bytes]]:
    if kind_of(os.pread(file.fileno(), 16, 0)) == "none":
        yield file
        return
    with tempfile.TemporaryFile(dir=scratch, buffering=0) as plain:
        for piece in decompressed_within(file, limits):
            files.write_all(plain, piece)
        plain.seek(0)
        yield plain


def _blob(digest: str) -> str:
    return "blobs/" + check_digest(digest).replace(":", "/")


def _normal(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")
