"""Images: the configuration document (Docker's and OCI's, which are one), and what the store says of an image."""

from __future__ import annotations

from typing import Annotated

import msgspec

from sampan.errors import InvalidInput
from sampan.spec.decoding import decode_document
from sampan.spec.distribution import Platform
from sampan.units import parse_timestamp

_Positive = Annotated[int, msgspec.Meta(ge=1)]


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """How to see whether a container is well; times in nanoseconds, 0 is the default of each."""

    test: tuple[str, ...] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ExecutionConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """What a container of the image gets where its user says nothing. Docker writes absent things as null."""

    hostname: str = ""
    domainname: str = ""
    user: str | None = None
    exposed_ports: dict[str, dict[str, str]] | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    healthcheck: HealthCheck | None = None
    args_escaped: bool | None = None
    image: str | None = None
    volumes: dict[str, dict[str, str]] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    on_build: tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None


class RootFS(msgspec.Struct, frozen=True, kw_only=True):
    """The layers by diff id (the digest of the uncompressed tar), lowest first."""

    type: str = "layers"
    diff_ids: tuple[str, ...] | None = None


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step in the making of an image, lowest first."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The document whose digest is the image's id. A view: the raw bytes are kept as they came."""

    architecture: str = ""
    os: str = ""
    variant: str | None = None
    os_version: str | None = msgspec.field(name="os.version", default=None)
    os_features: tuple[str, ...] | None = msgspec.field(name="os.features", default=None)
    created: str | None = None  # RFC 3339
    author: str | None = None
    comment: str | None = None  # Docker's own
    docker_version: str | None = None
    config: ExecutionConfig | None = None
    rootfs: RootFS = RootFS()
    history: tuple[HistoryEntry, ...] | None = None

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The layers, lowest first."""
        return self.rootfs.diff_ids or ()

    @property
    def execution(self) -> ExecutionConfig:
        """`config`, or an empty one."""
        return self.config or ExecutionConfig()

    @property
    def platform(self) -> Platform:
        """What it runs on."""
        return Platform(os=self.os, architecture=self.architecture, variant=self.variant)


def decode_config(document: bytes) -> ImageConfig:
    """Read an image's configuration, or raise InvalidInput with the field that is wrong."""
    config = decode_document(document, ImageConfig, "image configuration")
    if config.rootfs.type != "layers":
        raise InvalidInput(f"can't use image configuration: its rootfs is of type {config.rootfs.type!r}")
    return config


def moment_ns(created: str | None) -> int:
    """Return nanoseconds since 1970; 0 for what is absent, no time, or before that (Go's zero time)."""
    try:
        return max(0, parse_timestamp(created or ""))
    except InvalidInput:
        return 0


ON_HOST = "sampan.host"
"""Among the features of the operating system that an image needs: this machine's own root."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One image of the store, with its names as they were when it was looked up."""

    id: str  # sha256:…, the digest of raw_config
    config: ImageConfig
    raw_config: bytes
    diff_ids: tuple[str, ...] = ()  # lowest first
    layer_sizes: tuple[int, ...] = ()  # bytes of regular files, one for each diff id
    repo_tags: tuple[str, ...] = ()  # familiar: debian:bookworm
    repo_digests: tuple[str, ...] = ()  # familiar: debian@sha256:…
    size: int = 0
    manifest_digest: str | None = None
    last_tagged_ns: int = 0
    last_used_ns: int = 0  # when a container was last made of it or started; 0: never
    host: bool = False  # the built-in image of this machine's own root

    @property
    def on_host(self) -> bool:
        """Whether its layer lies over this machine's own root: it was built FROM host."""
        return ON_HOST in (self.config.os_features or ())

    @property
    def created(self) -> str | None:
        """When it was made, RFC 3339."""
        return self.config.created

    @property
    def created_ns(self) -> int:
        """The same in nanoseconds since 1970; 0 for what is absent, no time, or before that."""
        return moment_ns(self.config.created)

    @property
    def architecture(self) -> str:
        """In Go's words: amd64."""
        return self.config.architecture

    @property
    def os(self) -> str:
        """In Go's words: linux."""
        return self.config.os


class SavedImage(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One image of a docker-archive: what its manifest.json says. All but the names are names of members."""

    config: str
    repo_tags: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None


class HistoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `sampan history`, topmost first. `id` is the image's own on the top row, `<missing>` below."""

    id: str
    created: int  # seconds of the epoch
    created_by: str
    size: int
    comment: str
    tags: tuple[str, ...] = ()


class Use(msgspec.Struct, frozen=True):
    """A container that was made from an image."""

    container_id: str
    running: bool


class Removal(msgspec.Struct, frozen=True):
    """One line of what `rmi` did: `what` is `Untagged` or `Deleted`; `size` is what a layer gave back."""

    what: str
    name: str
    size: int = 0


class BlobFact(msgspec.Struct, frozen=True, kw_only=True):
    """A layer as it is transferred, seen to be that layer: when it came, or when it was packed here."""

    digest: str
    diff_id: str
    size: int
    media_type: str
    origins: tuple[str, ...] = ()  # registry/repository that have it, or had; the one it was last seen at first


class LayerLimits(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """What is refused because it is too large to be meant well: `[limits]` of the settings."""

    max_layer_bytes: _Positive = 512 << 30  # of its tar, and of one file with its holes
    max_layer_entries: _Positive = 4_000_000
    max_compression_ratio: _Positive = 400  # of its tar to what was transferred; gzip's greatest is 1,032

    @staticmethod
    def hint(key: str) -> str:
        """Say what allows more."""
        return f"if that is meant so, allow more: {key} in [limits] of config.toml"


class LayerResult(msgspec.Struct, frozen=True, kw_only=True):
    """What unpacking one layer found out."""

    digest: str  # of the bytes as read
    diff_id: str  # of the uncompressed tar
    compressed_bytes: int
    tar_bytes: int
    content_bytes: int  # of all regular files


class LayerPacked(msgspec.Struct, frozen=True, kw_only=True):
    """What packing one layer gave."""

    digest: str  # of the bytes as written
    size: int  # of the same
    diff_id: str  # of the uncompressed tar, verified


class LayerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """layer.json: what is known of an unpacked layer. Paths are of bytes, written as base64."""

    version: int = 1
    diff_id: str
    tar_bytes: int
    content_bytes: int
    implied: tuple[bytes, ...] = ()
    whiteouts: tuple[bytes, ...] = ()
    opaque_root: bool = False
    blob: str | None = None  # digest of what it was unpacked from


class Rootfs(msgspec.Struct, frozen=True, kw_only=True):
    """What an overlay is mounted from. One without `upperdir` is none: the directory itself is the root."""

    path: str  # the empty mount point, or that directory
    lowerdirs: tuple[str, ...]  # topmost first
    upperdir: str = ""
    workdir: str = ""

    @classmethod
    def of_mount(cls, path: str, options: tuple[str, ...]) -> Rootfs:
        """Read `mount_options` again."""
        if not options:
            return cls(path=path, lowerdirs=(path,))
        pairs = [option.partition("=")[::2] for option in options]
        upper, work = (next((v for k, v in pairs if k == key), "") for key in ("upperdir", "workdir"))
        lower = tuple(value for key, value in pairs if key == "lowerdir+")
        return cls(path=path, lowerdirs=lower, upperdir=upper, workdir=work)

    @property
    def layers(self) -> tuple[str, ...]:
        """All directories of it, topmost first."""
        return (self.upperdir, *self.lowerdirs) if self.upperdir else self.lowerdirs

    def mount_options(self) -> tuple[str, ...]:
        """Options of the plan's first mount: `lowerdir+=…` (topmost first), upperdir, workdir; none: no mount."""
        if not self.upperdir:
            return ()
        lower = tuple(f"lowerdir+={path}" for path in self.lowerdirs)
        return (*lower, f"upperdir={self.upperdir}", f"workdir={self.workdir}")
