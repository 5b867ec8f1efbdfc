"""What `/sampan/copy` and its like are asked, and answer."""

from __future__ import annotations

from sampan.spec.docker.body import Body, Given, always


class CopyRequest(Given, frozen=True, kw_only=True):
    """Copy an image from place to place: `spec.location.Location` says how they are written; paths are absolute."""

    verb: str = "copy"  # what the user calls it: copy, push
    source: str = ""
    destination: str = ""
    all: bool = True  # every platform of an index, where the destination can hold one; else this machine's
    platform: str = ""
    format: str = ""
    compression: str = ""  # gzip, zstd, none; "" is what suits the destination
    compression_level: int | None = None
    force_compression: bool = False
    preserve_digests: bool = False
    source_auth: str = ""  # as in the header X-Registry-Auth
    destination_auth: str = ""


class LayerData(Body, frozen=True, kw_only=True):
    """One layer of it."""

    mime_type: str = always("", "MIMEType")
    digest: str = always("")
    size: int = always(0)
    annotations: dict[str, str] | None = always(None)


class RemoteImage(Body, frozen=True, kw_only=True):
    """What is known of an image without getting it, in skopeo's names."""

    name: str = ""
    digest: str = always("")
    repo_tags: tuple[str, ...] = always(())
    created: str | None = always(None)
    docker_version: str = always("")
    labels: dict[str, str] | None = always(None)
    architecture: str = always("")
    os: str = always("", "Os")
    layers: tuple[str, ...] = always(())
    layers_data: tuple[LayerData, ...] = always(())
    env: tuple[str, ...] | None = always(None)


class RemoteTags(Body, frozen=True, kw_only=True):
    """The tags of a repository, in skopeo's names."""

    repository: str = always("")
    tags: tuple[str, ...] = always(())
