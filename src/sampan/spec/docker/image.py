"""Bodies about images, and the lines of progress while one arrives."""

from __future__ import annotations

from typing import Any

from sampan.spec.docker.body import Body, Given, always, named
from sampan.spec.docker.container import ContainerConfig, GraphDriver, HealthConfig


class Platform(Body, frozen=True, kw_only=True, rename=None):
    """What an image runs on, in OCI's names."""

    architecture: str = always("")
    os: str = always("")
    os_version: str = named("os.version", "")
    os_features: tuple[str, ...] | None = named("os.features", None)
    variant: str = ""


class Descriptor(Body, frozen=True, kw_only=True, rename="camel"):
    """A blob by its digest, in OCI's names."""

    media_type: str = always("")
    digest: str = always("")
    size: int = always(0)
    urls: tuple[str, ...] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str = ""


class ImageConfig(Body, frozen=True, kw_only=True):
    """What an image says about the containers made from it: `Config` of an image's inspect in 1.50."""

    user: str = ""
    exposed_ports: dict[str, dict[str, str]] | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: dict[str, dict[str, str]] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    args_escaped: bool = False
    healthcheck: HealthConfig | None = None
    on_build: tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None


class RootFs(Body, frozen=True, kw_only=True):
    """An image's layers by diff id, lowest first."""

    type: str = always("layers")
    layers: tuple[str, ...] | None = None


class DistributionInspect(Body, frozen=True, kw_only=True):
    """What a name means at its registry."""

    descriptor: Descriptor = always(Descriptor())
    platforms: tuple[Platform, ...] = always(())


class ImageMetadata(Body, frozen=True, kw_only=True):
    """What only this store knows of an image."""

    last_tag_time: str = always("0001-01-01T00:00:00Z")


class ImageManifestSize(Body, frozen=True, kw_only=True):
    """Bytes of a manifest's documents and kept blobs, and of all that is here."""

    content: int = always(0)
    total: int = always(0)


class ImageUnpackedSize(Body, frozen=True, kw_only=True):
    """Bytes of an image's unpacked layers."""

    unpacked: int = always(0)


class ImageProperties(Body, frozen=True, kw_only=True):
    """What of a manifest is an image."""

    platform: Platform = always(Platform())
    containers: tuple[str, ...] = always(())
    size: ImageUnpackedSize = always(ImageUnpackedSize())


class ImageManifestSummary(Body, frozen=True, kw_only=True):
    """One manifest of an image: here each has one."""

    id: str = always("")
    descriptor: Descriptor = always(Descriptor())
    available: bool = always(value=True)
    size: ImageManifestSize = always(ImageManifestSize())
    kind: str = always("image")
    image_data: ImageProperties | None = None


class ImageInspect(Body, frozen=True, kw_only=True):
    """All there is to know about an image."""

    id: str = always("", "Id")
    repo_tags: tuple[str, ...] = always(())
    repo_digests: tuple[str, ...] = always(())
    parent: str = always("")
    comment: str = always("")
    created: str = ""
    container: str | None = None  # until 1.44
    container_config: ContainerConfig | None = None  # until 1.44
    docker_version: str = always("")
    author: str = always("")
    config: ImageConfig | None = always(None)
    architecture: str = always("")
    variant: str = ""
    os: str = always("linux", "Os")
    os_version: str = named("OsVersion", "")
    size: int = always(0)
    virtual_size: int | None = None  # until 1.43
    graph_driver: GraphDriver = always(GraphDriver())
    root_fs: RootFs = always(RootFs(), "RootFS")
    metadata: ImageMetadata = always(ImageMetadata())
    descriptor: Descriptor | None = None
    manifests: tuple[ImageManifestSummary, ...] | None = None


class ImageSummary(Body, frozen=True, kw_only=True):
    """One line of `images`. The last field is ours: seconds since 1970, 0 for never."""

    containers: int = always(-1)
    created: int = always(0)
    id: str = always("", "Id")
    labels: dict[str, str] | None = always(None)
    parent_id: str = always("", "ParentId")
    descriptor: Descriptor | None = None
    repo_digests: tuple[str, ...] = always(())
    repo_tags: tuple[str, ...] = always(())
    shared_size: int = always(-1)
    size: int = always(0)
    virtual_size: int | None = None  # until 1.43
    manifests: tuple[ImageManifestSummary, ...] | None = None
    last_used: int = always(0)


class ImageUser(Body, frozen=True, kw_only=True):
    """A container that is made of an image."""

    id: str = always("", "Id")
    name: str = always("")
    state: str = always("")


class ImageLayer(Body, frozen=True, kw_only=True):
    """A layer of an image, and the images that have it too: by a name, or the id of one that has none."""

    diff_id: str = always("")
    size: int = always(0)
    created_by: str = always("")
    shared_with: tuple[str, ...] = always(())


class ImageTree(ImageSummary, frozen=True, kw_only=True):
    """An image with its layers, lowest first, and its containers: sampan's own."""

    platform: str = always("")
    layers: tuple[ImageLayer, ...] = always(())
    users: tuple[ImageUser, ...] = always(())


class ImageHistoryResponseItem(Body, frozen=True, kw_only=True):
    """One step of an image's history."""

    comment: str = always("")
    created: int = always(0)
    created_by: str = always("")
    id: str = always("<missing>", "Id")
    size: int = always(0)
    tags: tuple[str, ...] | None = always(None)


class ImageDeleteResponseItem(Body, frozen=True, kw_only=True):
    """A name or an object that is gone."""

    deleted: str = ""
    untagged: str = ""


class ProgressDetail(Body, frozen=True, kw_only=True, rename=None):
    """How much of how much."""

    current: int = 0
    total: int = 0


class ErrorDetail(Body, frozen=True, kw_only=True, rename=None):
    """An error in a stream of progress."""

    code: int = 0
    message: str = ""
    hint: str = ""


class ProgressMessage(Body, frozen=True, kw_only=True, rename=None):
    """One line of a stream of progress (`jsonmessage`)."""

    stream: str = ""
    status: str = ""
    progress_detail: ProgressDetail | None = named("progressDetail", None)
    progress: str = ""
    id: str = ""
    error_detail: ErrorDetail | None = named("errorDetail", None)
    error: str = ""
    aux: dict[str, Any] | None = None


class AuthConfig(Given, frozen=True, kw_only=True, rename=None):
    """A registry's credentials: the body of `/auth`, and of the header X-Registry-Auth in base64."""

    username: str = ""
    password: str = ""
    auth: str = ""
    email: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class AuthResponse(Body, frozen=True, kw_only=True):
    """Whether a registry took the credentials."""

    identity_token: str = always("")
    status: str = always("")
