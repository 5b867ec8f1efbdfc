"""Manifests that are made here: of images that have none, have other layers now, or change their format. Pure.

The configuration's bytes stay as they are, and with them the image's id.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Literal

import msgspec

from sampan.errors import InvalidInput, Unsupported
from sampan.image.blobs import digest_of
from sampan.spec.distribution import (
    CONFIGS,
    INDEXES,
    MANIFESTS,
    Descriptor,
    Index,
    Manifest,
    MediaType,
    check_layer_type,
    decode_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


Kind = Literal["none", "gzip", "zstd"]


class Format(enum.StrEnum):
    """The two families of media types."""

    OCI = "oci"
    DOCKER = "docker"

    @classmethod
    def parse(cls, text: str) -> Format | None:
        """Read podman's and skopeo's words: oci, docker, v2s2; "" is None. Raises InvalidInput."""
        if text == "v2s1":
            raise Unsupported("unsupported: Docker's schema 1, which is obsolete since 2017", "use oci or v2s2")
        if text in ("", "oci"):
            return cls.OCI if text else None
        if text in ("docker", "v2s2"):
            return cls.DOCKER
        raise InvalidInput(f"unknown format {text[:100]!r}", "there are oci and docker (v2s2)")


class Document(msgspec.Struct, frozen=True):
    """A manifest or an index as its bytes, which its digest names."""

    raw: bytes
    media_type: str

    @classmethod
    def of(cls, raw: bytes, media_type: str | None = None) -> Document:
        """Look what a document is; `media_type` is what its bearer says. Raises InvalidInput."""
        view = decode_manifest(raw, media_type)
        stated = view.media_type or media_type
        if stated in INDEXES | MANIFESTS:
            return cls(raw, stated or "")
        return cls(raw, MediaType.OCI_INDEX if isinstance(view, Index) else MediaType.OCI_MANIFEST)

    @classmethod
    def verified(cls, raw: bytes, digest: str, media_type: str | None = None) -> Document:
        """As `of`, and raise InvalidInput where it is not what its digest says."""
        if not digest.startswith("sha256:"):
            raise Unsupported(f"unsupported: a manifest by {digest}: only sha256 is understood")
        found = digest_of(raw)
        if found != digest:
            raise InvalidInput(
                f"digest does not match: the document is {found} and should be {digest}",
                "it was damaged on its way, or its source is wrong",
            )
        return cls.of(raw, media_type)

    @property
    def digest(self) -> str:
        """`sha256:…`."""
        return digest_of(self.raw)

    @property
    def format(self) -> Format:
        """The family it belongs to."""
        return Format.DOCKER if self.media_type in (MediaType.DOCKER_LIST, MediaType.DOCKER_MANIFEST) else Format.OCI

    def view(self) -> Manifest | Index:
        """What it says."""
        return decode_manifest(self.raw, self.media_type)

    def descriptor(self) -> Descriptor:
        """What an index says of it."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.raw))


_LAYER_TYPES = {
    (Format.OCI, "none"): MediaType.OCI_LAYER,
    (Format.OCI, "gzip"): MediaType.OCI_LAYER_GZIP,
    (Format.OCI, "zstd"): MediaType.OCI_LAYER_ZSTD,
    (Format.DOCKER, "none"): MediaType.DOCKER_LAYER,
    (Format.DOCKER, "gzip"): MediaType.DOCKER_LAYER_GZIP,
}
_KINDS: dict[MediaType, Kind] = {
    MediaType.OCI_LAYER: "none",
    MediaType.OCI_LAYER_GZIP: "gzip",
    MediaType.OCI_LAYER_ZSTD: "zstd",
    MediaType.DOCKER_LAYER: "none",
    MediaType.DOCKER_LAYER_GZIP: "gzip",
    MediaType.DOCKER_LAYER_ZSTD: "zstd",
}


def layer_type(format: Format, kind: str) -> MediaType:
    """The media type of a layer that is compressed so: `none`, `gzip`, `zstd`. Raises InvalidInput."""
    try:
        return _LAYER_TYPES[format, kind]
    except KeyError:
        raise InvalidInput(
            f"can't make a {format} manifest of layers compressed by {kind}", "use the format oci, or gzip"
        ) from None


def kind_of_layer(layer: Descriptor) -> Kind:
    """How a layer is compressed: `none`, `gzip`, `zstd`. Raises Unsupported where it is no layer."""
    check_layer_type(layer)
    return _KINDS[MediaType(layer.media_type)]


def image_manifest(
    config: bytes, layers: Sequence[Descriptor], format: Format, annotations: Mapping[str, str] | None = None
) -> Document:
    """Make the manifest of an image, the same at each time. `layers` are of any family, lowest first."""
    if annotations and format is Format.DOCKER:
        raise InvalidInput("can't annotate it: a manifest of the format docker has no annotations", "use --format oci")
    media_type = MediaType.DOCKER_MANIFEST if format is Format.DOCKER else MediaType.OCI_MANIFEST
    config_type = MediaType.DOCKER_CONFIG if format is Format.DOCKER else MediaType.OCI_CONFIG
    manifest = Manifest(
        schema_version=2,
        media_type=media_type,
        config=Descriptor(media_type=config_type, digest=digest_of(config), size=len(config)),
        layers=tuple(_converted_layer(layer, format) for layer in layers),
        annotations=dict(sorted(annotations.items())) if annotations else None,
    )
    return Document(msgspec.json.encode(manifest), media_type)


def image_of(document: Document) -> Manifest:
    """Read the manifest of a container image. Raises Unsupported where it is anything else."""
    manifest = document.view()
    if isinstance(manifest, Index):
        raise Unsupported(f"can't use {document.digest}: it is no container image but an index of some")
    if manifest.config.media_type not in CONFIGS:
        raise Unsupported(
            f"can't use {document.digest}: it is no container image but an artifact, {manifest.config.media_type[:200]}"
        )
    return manifest


def converted(document: Document, format: Format, config: bytes, layers: Sequence[Descriptor]) -> Document:
    """Make the manifest of an image anew in another family, or with other layers; what fits is kept."""
    manifest = image_of(document)
    return image_manifest(config, layers, format, manifest.annotations if format is Format.OCI else None)


def index(manifests: Sequence[Descriptor], format: Format, annotations: Mapping[str, str] | None = None) -> Document:
    """Make the index of some images."""
    media_type = MediaType.DOCKER_LIST if format is Format.DOCKER else MediaType.OCI_INDEX
    made = Index(
        schema_version=2,
        media_type=media_type,
        manifests=tuple(manifests),
        annotations=dict(sorted(annotations.items())) if annotations and format is Format.OCI else None,
    )
    return Document(encode_index(made), media_type)


def encode_index(index: Index) -> bytes:
    """Return an index as JSON, where an empty one has its list too."""
    return msgspec.json.encode({**msgspec.to_builtins(index), "manifests": index.manifests})


def _converted_layer(layer: Descriptor, format: Format) -> Descriptor:
    return Descriptor(
        media_type=layer_type(format, kind_of_layer(layer)),
        digest=layer.digest,
        size=layer.size,
        annotations=layer.annotations if format is Format.OCI else None,
    )
