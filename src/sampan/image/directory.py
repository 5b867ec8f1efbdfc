"""skopeo's `dir:`: one image in one flat directory, blobs named by their digests' digits, and manifest.json.

Of an index, manifest.json is the index and each image's manifest is DIGITS.manifest.json. There are signatures beside
them in skopeo's own directories; they are not copied. Source: containers/image, directory/directory_transport.go.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from sampan.errors import Conflict, InvalidInput, NotFound, doing
from sampan.ids import check_digest
from sampan.image import files
from sampan.image.manifest import Document
from sampan.image.transfer import LARGEST_DOCUMENT, Found
from sampan.kernel.newfile import new_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sampan.image.transfer import Opener
    from sampan.spec.distribution import Descriptor

_VERSION = b"Directory Transport Version: 1.1\n"
_START = b"Directory Transport Version: 1."
_OURS = re.compile(r"[0-9a-f]{64}|[0-9a-f]{128}|([0-9a-f]+\.)?manifest\.json|version|(\S+-)?signature-[0-9]+")


class Directory:
    """The image of a directory."""

    repository: str | None = None
    at_once = 4
    holds_indexes = True

    def __init__(self, path: str) -> None:
        self._path = path
        self._written = {"manifest.json", "version"}

    @classmethod
    def opened(cls, path: str) -> Directory:
        """Open a directory that has an image."""
        with doing(f"can't read {path}"):
            try:
                version = files.read_document(f"{path}/version", 1000)
            except FileNotFoundError:
                version = _VERSION  # the first ones had none
            if not version.startswith(_START):
                raise InvalidInput(f"its file version says {version[:60].decode(errors='replace')!r}")
            if not os.path.exists(f"{path}/manifest.json"):
                raise NotFound("it has no manifest.json", "skopeo's dir: has one; a layout is oci:")
        return cls(path)

    @classmethod
    def made(cls, path: str) -> Directory:
        """Make a directory, or take one that is empty or has an image, in whose place the new one comes."""
        with doing(f"can't write {path}"):
            os.makedirs(path, exist_ok=True)
            if os.listdir(path) and not os.path.exists(f"{path}/version"):
                raise Conflict("the directory has no image and is not empty", "name another, or an empty one")
        return cls(path)

    # ------------------------------------------------------------------------------------------------ a source

    def document(self, digest: str | None = None) -> Document:
        """The manifest or index of this digest, verified; None: manifest.json."""
        with doing(f"can't read {self._path}"):
            if digest is None:
                return Document.of(files.read_document(f"{self._path}/manifest.json", LARGEST_DOCUMENT))
            path = f"{self._path}/{_digits(digest)}.manifest.json"
            return Document.verified(files.read_document(path, LARGEST_DOCUMENT), digest)

    def blob(self, blob: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a blob, from an offset on. They are not verified."""
        with doing(f"can't read {self._path}"):
            yield from files.read_blob(f"{self._path}/{_digits(blob.digest)}", offset)

    # ------------------------------------------------------------------------------------------------ a sink

    def find(self, blob: Descriptor, origins: Sequence[str] = ()) -> Found | None:  # noqa: ARG002
        """Whether a blob is there."""
        digits = _digits(blob.digest)
        self._written.add(digits)
        return Found() if files.has_file(f"{self._path}/{digits}", blob.size) else None

    def put_blob(self, open: Opener, digest: str | None, size: int | None) -> Descriptor:  # noqa: ARG002
        """Write a blob."""
        with doing(f"can't write {self._path}"):
            written = files.write_blob(self._path, open, digest)
        self._written.add(_digits(written.digest))
        return written

    def put_manifest(self, document: Document) -> None:
        """Write a manifest that manifest.json names."""
        self._replace(f"{_digits(document.digest)}.manifest.json", document.raw)

    def finish(self, document: Document) -> None:
        """Write manifest.json, and remove what an image that was here before has left."""
        with doing(f"can't write {self._path}"):
            self._replace("version", _VERSION)
            self._replace("manifest.json", document.raw)
            for name in os.listdir(self._path):
                if name not in self._written and _OURS.fullmatch(name):
                    os.unlink(f"{self._path}/{name}")

    def _replace(self, name: str, data: bytes) -> None:
        with new_file(f"{self._path}/{name}") as new:
            new.write(data)
            os.fsync(new.file.fileno())
        self._written.add(name)


def _digits(digest: str) -> str:
    return check_digest(digest).partition(":")[2]
