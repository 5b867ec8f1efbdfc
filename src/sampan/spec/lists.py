"""Indexes that are being made here (`sampan manifest`): which images are in one, and what it says of each. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Conflict, InvalidInput, NotFound
from sampan.spec.decoding import decode_json
from sampan.spec.distribution import GO_ARCHITECTURES, GO_SYSTEMS, Descriptor, Platform, decode_manifest
from sampan.spec.docker.body import Body, Given, always

if TYPE_CHECKING:
    from collections.abc import Sequence


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a list, as it was when it was added."""

    reference: str  # as people write it
    place: str  # `spec.location`: docker://…@sha256:… or store:ID
    descriptor: Descriptor  # with its platform
    manifest: bytes


class ManifestList(msgspec.Struct, frozen=True, kw_only=True):
    """A list. Its document in the database is this as JSON."""

    entries: tuple[Entry, ...] = ()
    annotations: dict[str, str] | None = None

    def annotated(self, annotations: dict[str, str]) -> ManifestList:
        """Annotate the list itself."""
        return msgspec.structs.replace(self, annotations={**(self.annotations or {}), **annotations} or None)

    def with_entries(self, entries: Sequence[Entry], change: PlatformChange) -> ManifestList:
        """Add images, each in the place of one of the same name or content, and say of them what `change` does."""
        known = list(self.entries)
        for entry in entries:
            new = msgspec.structs.replace(entry, descriptor=change.applied(entry.descriptor))
            same = (new.reference, new.descriptor.digest)
            known = [e for e in known if e.reference != same[0] and e.descriptor.digest != same[1]]
            known.append(new)
        return msgspec.structs.replace(self, entries=tuple(known))

    def find(self, name: str, reference: str, list_name: str) -> Entry:
        """Find an image by its digest or its reference. Raises NotFound in Docker's words."""
        for entry in self.entries:
            if name in (entry.descriptor.digest, entry.reference) or entry.reference == reference:
                return entry
        raise NotFound(
            f"manifest for image {name} does not exist in {list_name}",
            f"there are: {', '.join(e.reference for e in self.entries) or 'none'}",
        )

    def without(self, entry: Entry) -> ManifestList:
        """Take an image out."""
        return msgspec.structs.replace(self, entries=tuple(e for e in self.entries if e is not entry))

    def changed(self, entry: Entry, change: PlatformChange) -> ManifestList:
        """Say something else of an image."""
        new = msgspec.structs.replace(entry, descriptor=change.applied(entry.descriptor))
        return msgspec.structs.replace(self, entries=tuple(new if e is entry else e for e in self.entries))


class PlatformChange(Given, frozen=True, kw_only=True):
    """What `annotate` and `add` say of an image; "" and None leave it as it is."""

    architecture: str = ""
    os: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    variant: str = ""
    annotations: dict[str, str] = msgspec.field(default_factory=dict)

    def platform(self) -> Platform | None:
        """Which image of an index is meant: this one, or None: this machine's."""
        if not self.architecture:
            return None
        return Platform(architecture=self.architecture, os=self.os or "linux", variant=self.variant or None)

    def applied(self, descriptor: Descriptor) -> Descriptor:
        """Return the descriptor with what is given here. Raises InvalidInput for no platform of Go's."""
        old = descriptor.platform or Platform(architecture="", os="")
        platform = Platform(
            architecture=self.architecture or old.architecture,
            os=self.os or old.os,
            variant=self.variant or old.variant,
            os_version=self.os_version or old.os_version,
            os_features=self.os_features or old.os_features,
        )
        if (self.os or self.architecture) and not (
            platform.os in GO_SYSTEMS and platform.architecture in GO_ARCHITECTURES
        ):
            raise InvalidInput(
                f"manifest entry for image has unsupported os/arch combination: {platform.os}/{platform.architecture}"
            )
        annotations = {**(descriptor.annotations or {}), **self.annotations}
        return msgspec.structs.replace(descriptor, platform=platform, annotations=annotations or None)


def decode(document: bytes) -> ManifestList:
    """Read a list from the database."""
    return decode_json(document, ManifestList)


def check_new(exists: bool, amend: bool) -> None:
    """Refuse to make a list that is there already. Raises Conflict in Docker's words."""
    if exists and not amend:
        raise Conflict("refusing to amend an existing manifest list with no --amend flag")


class ListRequest(Given, frozen=True, kw_only=True):
    """Make a list, or add to one. `auths` are X-Registry-Auth headers by registry/repository."""

    name: str = ""
    images: tuple[str, ...] = ()
    amend: bool = False
    all: bool = False  # all images of an index, else this machine's, or that of `change`
    annotations: dict[str, str] = msgspec.field(default_factory=dict)  # of the list
    change: PlatformChange = PlatformChange()
    auths: dict[str, str] = msgspec.field(default_factory=dict)


class AnnotateRequest(Given, frozen=True, kw_only=True):
    """Say something else of an image of a list."""

    image: str = ""
    change: PlatformChange = PlatformChange()


class PushListRequest(Given, frozen=True, kw_only=True):
    """Push a list."""

    destination: str = ""  # "" is its own name
    all: bool = True  # the images too, else they must be there
    format: str = ""
    purge: bool = False
    auths: dict[str, str] = msgspec.field(default_factory=dict)


class InspectedManifest(Body, frozen=True, kw_only=True):
    """One image of a list or at a registry, in the names of Docker's `manifest inspect -v`."""

    ref: str = always("")
    descriptor: Descriptor | None = always(None)
    raw: bytes = always(b"")
    schema_v2_manifest: msgspec.Raw | None = msgspec.field(name="SchemaV2Manifest", default=None)
    oci_manifest: msgspec.Raw | None = msgspec.field(name="OCIManifest", default=None)


class InspectedList(Body, frozen=True, kw_only=True):
    """What `manifest inspect` finds: the document, and of each image what is known."""

    document: msgspec.Raw = always(msgspec.Raw(b"{}"))
    is_list: bool = always(False)
    manifests: tuple[InspectedManifest, ...] = always(())


def inspected(reference: str, descriptor: Descriptor, raw: bytes) -> InspectedManifest:
    """Describe one image."""
    decode_manifest(raw)
    docker = "docker" in descriptor.media_type
    return InspectedManifest(
        ref=reference,
        descriptor=descriptor,
        raw=raw,
        schema_v2_manifest=msgspec.Raw(raw) if docker else None,
        oci_manifest=None if docker else msgspec.Raw(raw),
    )
