"""Which artifacts (signatures, SBOMs) refer to a manifest: as a registry lists them, or under a tag for want of that.

Source: distribution-spec 1.1, "Listing Referrers" and "Referrers Tag Schema".
"""

from __future__ import annotations

import msgspec

from sampan.errors import InvalidInput
from sampan.spec.decoding import decode_json
from sampan.spec.distribution import Descriptor, Index, MediaType
from sampan.spec.document import UNREADABLE


class _Artifact(msgspec.Struct, frozen=True, rename="camel"):
    """What of a manifest or index says to what it refers."""

    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    config: Descriptor | None = None
    annotations: dict[str, str] | None = None


def tag_of(digest: str) -> str:
    """Return the tag under which a registry without a list keeps the referrers of a manifest."""
    algorithm, _, digits = digest.partition(":")
    return f"{algorithm[:32]}-{digits[:64]}"


def subject_of(raw: bytes) -> str | None:
    """Return the digest of what a manifest refers to, if it does."""
    artifact = _read(raw)
    return artifact.subject.digest if artifact.subject is not None else None


def entry_of(raw: bytes, digest: str, media_type: str) -> Descriptor:
    """Return how a manifest is listed among the referrers of its subject."""
    artifact = _read(raw)
    kind = artifact.artifact_type or (artifact.config.media_type if artifact.config is not None else "")
    return Descriptor(
        media_type=media_type,
        digest=digest,
        size=len(raw),
        artifact_type=kind or None,
        annotations=artifact.annotations,
    )


def with_entry(raw: bytes | None, entry: Descriptor) -> bytes | None:
    """Return the index with one entry more, None where it is in there already."""
    index = read_index(raw) if raw is not None else Index(schema_version=2)
    if any(listed.digest == entry.digest for listed in index.manifests):
        return None
    new = msgspec.structs.replace(index, media_type=MediaType.OCI_INDEX, manifests=(*index.manifests, entry))
    return msgspec.json.encode(new)


def without_entry(raw: bytes, digest: str) -> bytes | None:
    """Return the index with one entry less, None where it is not in there."""
    index = read_index(raw)
    left = tuple(listed for listed in index.manifests if listed.digest != digest)
    if left == index.manifests:
        return None
    return msgspec.json.encode(msgspec.structs.replace(index, manifests=left))


def read_index(raw: bytes) -> Index:
    """Read a list of referrers."""
    try:
        return decode_json(raw, Index)
    except UNREADABLE as e:
        raise InvalidInput(f"can't read the list of referrers: {e}") from e


def _read(raw: bytes) -> _Artifact:
    try:
        return decode_json(raw, _Artifact)
    except UNREADABLE as e:
        raise InvalidInput(f"can't read manifest: {e}") from e
