"""An image at a registry, to be copied from or to: `transfer`'s source and sink."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.ids import check_digest
from sampan.image.manifest import Document
from sampan.image.transfer import Found

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sampan.image.registry import Repository
    from sampan.image.transfer import Opener
    from sampan.spec.distribution import Descriptor
    from sampan.spec.reference import Reference


class RemoteImage:
    """What a reference means at its registry. One without tag and digest is to be written to: by digest alone."""

    at_once = 4
    holds_indexes = True

    def __init__(self, repository: Repository, reference: Reference) -> None:
        self._repository = repository
        self.reference = reference
        self.repository: str | None = reference.name

    def document(self, digest: str | None = None) -> Document:
        """The manifest or index of this digest, verified; None: the one that the reference means."""
        wanted = digest or self.reference.digest
        raw, media_type = self._repository.manifest(wanted or self.reference.tag or "latest")
        return Document.verified(raw, wanted, media_type) if wanted else Document.of(raw, media_type)

    def blob(self, blob: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a blob, from an offset on. They are not verified."""
        return self._repository.blob(blob, offset)

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob is there."""
        return self._repository.has_blob(check_digest(blob.digest)) == blob.size

    def find(self, blob: Descriptor, origins: Sequence[str] = ()) -> Found | None:
        """Whether a blob is there, or could be mounted from a repository of the same registry."""
        if self._repository.has_blob(check_digest(blob.digest), pushing=True) == blob.size:
            return Found()
        for origin in origins:
            registry, _, repository = origin.partition("/")
            if registry != self.reference.registry or repository == self.reference.repository:
                continue
            if self._repository.mount_blob(blob.digest, repository):
                return Found(repository)
        return None

    def put_blob(self, open: Opener, digest: str | None, size: int | None) -> Descriptor:
        """Upload a blob."""
        return self._repository.upload_blob(open, digest=digest, size=size)

    def put_manifest(self, document: Document) -> None:
        """Upload a manifest by its digest."""
        self._repository.put_manifest(document.digest, document.raw, document.media_type)

    def finish(self, document: Document) -> None:
        """Upload what the reference means from now on."""
        name = self.reference.digest or self.reference.tag or document.digest
        self._repository.put_manifest(name, document.raw, document.media_type)
