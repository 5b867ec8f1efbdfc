"""What travels between registries, archives and the store: media types, descriptors, manifests, platforms."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import InvalidInput, Unsupported
from sampan.spec.decoding import decode_document

if TYPE_CHECKING:
    from collections.abc import Iterable


class MediaType(enum.StrEnum):
    """The media types that are understood."""

    OCI_INDEX = "application/vnd.oci.image.index.v1+json"
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
    DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"


INDEXES = frozenset({MediaType.OCI_INDEX, MediaType.DOCKER_LIST})
MANIFESTS = frozenset({MediaType.OCI_MANIFEST, MediaType.DOCKER_MANIFEST})
CONFIGS = frozenset({MediaType.OCI_CONFIG, MediaType.DOCKER_CONFIG})
LAYERS = frozenset(
    {
        MediaType.OCI_LAYER,
        MediaType.OCI_LAYER_GZIP,
        MediaType.OCI_LAYER_ZSTD,
        MediaType.DOCKER_LAYER,
        MediaType.DOCKER_LAYER_GZIP,
        MediaType.DOCKER_LAYER_ZSTD,
    }
)
_FOREIGN = ("application/vnd.docker.image.rootfs.foreign.", "application/vnd.oci.image.layer.nondistributable.")


class Platform(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an image runs on, in Go's words: amd64, not x86_64."""

    architecture: str
    os: str = "linux"
    variant: str | None = None
    os_version: str | None = msgspec.field(name="os.version", default=None)
    os_features: tuple[str, ...] | None = msgspec.field(name="os.features", default=None)

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}" + (f"/{self.variant}" if self.variant else "")

    def familiar(self) -> str:
        """As Docker shows it: without the variant that nearly all machines of an architecture are."""
        usual = {"arm64": "v8", "amd64": "v1"}.get(self.architecture)
        return f"{self.os}/{self.architecture}" if self.variant == usual else str(self)

    @classmethod
    def parse(cls, text: str, machine: str = "") -> Platform:
        """Read `linux/arm64`, `linux/arm/v7` or `arm64`; the kernel's words (x86_64) are understood too.

        With a `machine`, as `uname -m` calls it, `linux` alone is the system of one like it.
        """
        parts = text.lower().split("/")
        if not all(parts) or len(parts) > 3:
            raise InvalidInput(f"can't use platform {text!r}: it reads os/architecture[/variant]", "like linux/arm64")
        if len(parts) == 1 and machine and parts[0] in GO_SYSTEMS:
            return msgspec.structs.replace(cls.of_machine(machine), os=parts[0])
        if len(parts) == 1:
            if go_architecture(parts[0])[0] not in GO_ARCHITECTURES:
                raise InvalidInput(f"can't use platform {text!r}: it names no architecture", "like linux/arm64")
            parts.insert(0, "linux")
        architecture, variant = go_architecture(parts[1])
        return cls(os=parts[0], architecture=architecture, variant=parts[2] if len(parts) == 3 else variant)

    @classmethod
    def of_machine(cls, machine: str) -> Platform:
        """The platform of a Linux whose `uname -m` says `machine`."""
        architecture, variant = go_architecture(machine)
        return cls(architecture=architecture, variant=variant)


# What Go knows: `go tool dist list`.
GO_SYSTEMS = frozenset((
    "aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd", "openbsd", "plan9",
    "solaris", "wasip1", "windows",
))  # fmt: skip
GO_ARCHITECTURES = frozenset((
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
))  # fmt: skip
_SPELLINGS: dict[str, tuple[str, str | None]] = {
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "i386": ("386", None),
    "i486": ("386", None),
    "i586": ("386", None),
    "i686": ("386", None),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "arm": ("arm", "v7"),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v7"),
    "loongarch64": ("loong64", None),
}
_ARM_VARIANTS = ("v8", "v7", "v6", "v5")


def go_architecture(machine: str) -> tuple[str, str | None]:
    """Go's word and variant for an architecture as uname(2), dpkg or Go itself calls it."""
    return _SPELLINGS.get(machine, (machine, None))


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What another document says of a blob."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One image: its configuration and its layers, lowest first (Docker schema 2 and OCI)."""

    schema_version: int
    media_type: str | None = None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Several images under one name: Docker's manifest list and OCI's index."""

    schema_version: int
    media_type: str | None = None
    manifests: tuple[Descriptor, ...] = ()
    annotations: dict[str, str] | None = None


class _Kind(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int
    media_type: str | None = None
    config: object = None
    manifests: object = None
    layers: object = None


def decode_manifest(document: bytes, media_type: str | None = None) -> Manifest | Index:
    """Read a manifest or index. Where it is of two types at once, it is refused: CVE-2021-41190."""
    kind = decode_document(document, _Kind, "manifest")
    stated = kind.media_type or media_type
    if kind.schema_version == 1:
        raise Unsupported(
            "can't use manifest: it is of Docker's schema 1, which is obsolete since 2017",
            "push the image again with a newer program",
        )
    if kind.manifests is not None and (kind.layers is not None or kind.config is not None):
        raise InvalidInput("can't read manifest: it claims to be an image and an index at once")
    if media_type and kind.media_type and media_type in INDEXES | MANIFESTS and media_type != kind.media_type:
        raise InvalidInput(f"can't read manifest: it calls itself {kind.media_type} and came as {media_type}")
    wanted: type[Manifest | Index] = Index if kind.manifests is not None else Manifest
    if (stated in INDEXES and wanted is not Index) or (stated in MANIFESTS and wanted is not Manifest):
        raise InvalidInput(f"can't read manifest: its content is not of its type {stated}")
    return decode_document(document, wanted, "manifest")


def check_layer_type(layer: Descriptor) -> None:
    """Refuse what is no file system layer, and foreign ones: their bytes are at an address of somebody's choice."""
    if layer.media_type.startswith(_FOREIGN):
        raise Unsupported(f"can't use layer {layer.digest}: it is foreign (non-distributable), kept at another address")
    if layer.media_type not in LAYERS:
        raise Unsupported(
            f"can't use layer {layer.digest}: unsupported media type {layer.media_type}",
            "it may be an artifact and no container image, or be encrypted",
        )


def choose(manifests: Iterable[Descriptor], wanted: Platform) -> Descriptor | None:
    """Return the entry of an index that runs best on `wanted`, or None.

    An exact variant wins; else for arm the greatest lower one, and for the others an entry without a variant. Entries
    without a platform (and attestations, `unknown/unknown`) are taken only if nothing else is there.
    """
    best: tuple[int, Descriptor] | None = None
    entries = tuple(manifests)
    for entry in entries:
        rank = _rank(entry.platform, wanted)
        if rank is not None and (best is None or rank < best[0]):
            best = (rank, entry)
    if best is None and len(entries) == 1 and entries[0].platform is None:
        return entries[0]
    return best[1] if best else None


def _rank(offered: Platform | None, wanted: Platform) -> int | None:
    if offered is None or offered.os != wanted.os:
        return None
    architecture, default_variant = go_architecture(offered.architecture)
    variant = offered.variant or default_variant
    if architecture == wanted.architecture:
        return _rank_variant(architecture, variant, wanted.variant)
    if wanted.architecture == "arm64" and architecture == "arm":
        return 10 + _ARM_VARIANTS.index(variant) if variant in _ARM_VARIANTS else None
    if wanted.architecture == "amd64" and architecture == "386":
        return 10
    return None


def _rank_variant(architecture: str, offered: str | None, wanted: str | None) -> int | None:
    if offered == wanted:
        return 0
    if architecture == "arm" and offered in _ARM_VARIANTS and wanted in _ARM_VARIANTS:
        distance = _ARM_VARIANTS.index(offered) - _ARM_VARIANTS.index(wanted)
        return distance if distance > 0 else None
    if offered is None or (wanted is None and offered in {"v1", "v8"}):
        return 1
    # amd64 has microarchitecture levels, v1 < v2 < v3; without being asked only the least is sure to run.
    if wanted is not None and offered.startswith("v") and wanted.startswith("v") and offered < wanted:
        return 5 + len(wanted)
    return None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a pull, load or import, in Docker's words: `id` is a layer's short digest or a tag, if any."""

    status: str
    id: str | None = None
    current: int | None = None  # bytes so far, of `total`
    total: int | None = None
    sizes: dict[str, int] | None = None  # instead of a status: of all that will move, by id


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True, rename={"identity_token": "identitytoken", "registry_token": "registrytoken", "server_address": "serveraddress"}):  # fmt: skip  # noqa: E501
    """Credentials for a registry: Docker's X-Registry-Auth document."""

    username: str = ""
    password: str = ""
    auth: str = ""  # base64 of username:password
    identity_token: str = ""
    registry_token: str = ""
    server_address: str = ""
