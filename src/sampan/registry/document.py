"""What a manifest says of other content: what it needs, what it refers to, how it is listed. Pure."""

from __future__ import annotations

import re

import msgspec

from sampan.registry.refusal import Refusal
from sampan.registry.routes import check_digest
from sampan.spec.decoding import decode_json
from sampan.spec.distribution import INDEXES, MANIFESTS, Descriptor

LONGEST = 4 << 20
"""Bytes of a manifest. The specification asks a registry for at least this."""

_TYPE = re.compile(r"application/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_SCHEMA_1 = re.compile(r"application/vnd\.docker\.distribution\.manifest\.v1\+.*")
_ELSEWHERE = ("application/vnd.docker.image.rootfs.foreign.", "application/vnd.oci.image.layer.nondistributable.")


class Document(msgspec.Struct, frozen=True, rename="camel"):
    """The fields by which manifests, indexes and artifacts of any kind name other content."""

    schema_version: int | None = None
    media_type: str | None = None
    artifact_type: str | None = None
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None
    blobs: tuple[Descriptor, ...] | None = None
    manifests: tuple[Descriptor, ...] | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest that may be stored."""

    digest: str
    media_type: str
    data: bytes
    blobs: tuple[Descriptor, ...]  # that the repository must have
    manifests: tuple[Descriptor, ...]  # likewise
    subject: str | None  # the digest of what it is attached to
    listed: Descriptor  # what the subject's referrers say of it


def read(data: bytes, content_type: str, digest: str) -> Manifest:
    """Check what can be checked without the repository. Raises Refusal."""
    try:
        document = decode_json(data, Document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as e:
        raise invalid(f"it can't be read: {e}") from e
    media_type = _media_type(document, content_type)
    _check_shape(document, media_type)
    blobs = (*((document.config,) if document.config else ()), *(document.layers or ()), *(document.blobs or ()))
    for one in (*blobs, *(document.manifests or ()), *((document.subject,) if document.subject else ())):
        check_digest(one.digest)
        if one.size < 0:
            raise Refusal("SIZE_INVALID", f"the size of {one.digest} is negative")
    return Manifest(
        digest=digest,
        media_type=media_type,
        data=data,
        blobs=tuple(blob for blob in blobs if not _is_elsewhere(blob)),
        manifests=document.manifests or (),
        subject=document.subject.digest if document.subject else None,
        listed=listed(document, media_type, digest, len(data)),
    )


def listed(document: Document, media_type: str, digest: str, size: int) -> Descriptor:
    """Return what its subject's referrers say of a manifest."""
    artifact_type = document.artifact_type
    if not artifact_type and document.config and media_type not in INDEXES:
        artifact_type = document.config.media_type
    return Descriptor(
        media_type=media_type,
        digest=digest,
        size=size,
        artifact_type=artifact_type or None,
        annotations=document.annotations,
    )


def references(data: bytes) -> Document | None:
    """Return what a stored manifest names, of any kind; None where it can't be read."""
    try:
        return decode_json(data, Document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _media_type(document: Document, content_type: str) -> str:
    given = content_type.partition(";")[0].strip()
    if not given:
        given = document.media_type or ""
    if not _TYPE.fullmatch(given):
        raise invalid(f"its Content-Type {given[:100]!r} is no media type of a manifest")
    if document.media_type and document.media_type != given:
        raise invalid(f"it calls itself {document.media_type[:200]} and came as {given}")
    return given


def _check_shape(document: Document, media_type: str) -> None:
    """Refuse what its type forbids, and what could be taken for two types at once: CVE-2021-41190."""
    if _SCHEMA_1.fullmatch(media_type) or document.schema_version == 1:
        raise invalid("it is of Docker's schema 1, which is obsolete since 2017")
    if document.manifests is not None and (document.layers is not None or document.config is not None):
        raise invalid("it claims to be an image and an index at once")
    if media_type in MANIFESTS | INDEXES and document.schema_version != 2:
        raise invalid("its schemaVersion is not 2")
    if media_type in MANIFESTS and document.config is None:
        raise invalid("it has no config")
    if media_type in INDEXES and (document.config is not None or document.layers is not None):
        raise invalid("its content is not of its type")


def _is_elsewhere(blob: Descriptor) -> bool:
    return bool(blob.urls) and blob.media_type.startswith(_ELSEWHERE)


def invalid(why: str) -> Refusal:
    """Return the refusal of a manifest."""
    return Refusal("MANIFEST_INVALID", f"manifest invalid: {why}")
