"""Images: what the image store does, with the engine's workers to unpack and its containers as users."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.engine import directories
from sampan.engine.listing import has_label
from sampan.errors import InvalidInput
from sampan.image import archive, auth as credentials
from sampan.spec import docker
from sampan.spec.distribution import Platform
from sampan.spec.image import Use
from sampan.spec.reference import Reference
from sampan.supervise import messages
from sampan.units import ZERO_TIME, format_timestamp, parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from sampan.engine.core import Core
    from sampan.engine.requests import Filters
    from sampan.image.compression import Compression, Readable
    from sampan.spec.distribution import Progress
    from sampan.spec.image import ExecutionConfig, Image

    Report = Callable[[Progress], None]

_UNPACK_S = 24 * 3600
_FILTERS = frozenset({"before", "dangling", "label", "reference", "since", "until"})


class Unpacker:
    """Unpacks a layer in a process of its own, which the keeper forks; several at once use as many processors."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, fd: int, target: str, *, digest: str | None, diff_id: str | None) -> messages.Unpacked:
        """Unpack the compressed tar that `fd` gives into the new directory `target`."""
        channel = self._core.worker()
        try:
            job = messages.Unpack(target=target, digest=digest, diff_id=diff_id)
            return channel.ask(job, messages.Unpacked, (fd,), timeout_s=_UNPACK_S)
        finally:
            channel.close()


class Packer:
    """Writes a layer's tar in a process of its own, as `Unpacker` unpacks one."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, layer: str, fd: int, *, compression: Compression) -> messages.Packed:
        """Write the tar of the unpacked layer in the directory `layer` to `fd`."""
        channel = self._core.worker()
        try:
            job = messages.Pack(layer=layer, kind=compression.kind, level=compression.level)
            return channel.ask(job, messages.Packed, (fd,), timeout_s=_UNPACK_S)
        finally:
            channel.close()


def pull(core: Core, name: str, *, platform: str | None, auth: bytes | None, progress: Report) -> None:
    """Bring an image from its registry."""
    from sampan.image import pull as pulling  # and urllib3, a third of all imports: the server does it behind its start

    reference = Reference.parse(name)
    image = pulling.pull(
        core.images,
        reference,
        platform=Platform.parse(platform) if platform else None,
        auth=credentials.from_header(auth.decode("ascii", "replace")) if auth else None,
        unpack=Unpacker(core),
        progress=progress,
    )
    core.bus.tell("image", "pull", reference.familiar(), {"name": reference.familiar_name(), "image": image.id})


def load(core: Core, stream: Readable, *, progress: Report) -> list[str]:
    """Take in an archive of images; return the lines that Docker prints."""
    lines = archive.load(core.images, stream, unpack=Unpacker(core), progress=progress)
    for line in lines:
        name = line.partition(": ")[2]
        core.bus.tell("image", "load", core.images.resolve(name).id, {"name": name})
    return lines


def import_image(
    core: Core,
    stream: Readable | str,
    reference: str,
    *,
    changes: tuple[str, ...],
    message: str,
    platform: str | None,
) -> str:
    """Make an image of a root filesystem: a tar, or a directory of this host by its path. Return its id."""
    source = directories.tar_of(stream) if isinstance(stream, str) else stream
    image = archive.import_tarball(
        core.images,
        source,
        ref=Reference.parse(reference) if reference else None,
        changes=changes,
        message=message,
        platform=Platform.parse(platform) if platform else None,
        unpack=Unpacker(core),
    )
    core.bus.tell("image", "import", image.id, {"name": reference or image.id})
    return image.id


def tag(core: Core, name: str, repository: str, tag_name: str | None) -> None:
    """Give an image another name."""
    if not repository:
        raise InvalidInput("repository name must have at least one component", "name the new tag: repository:tag")
    image = core.images.resolve(name)
    reference = Reference.parse(f"{repository}:{tag_name}" if tag_name else repository)
    core.images.tag(image, reference)
    core.bus.tell("image", "tag", image.id, {"name": reference.familiar()})


def in_use(core: Core, image_id: str) -> list[Use]:
    """Return the containers made of an image."""
    return [Use(c.id, c.running) for c in core.registry if c.image_id == image_id]


def remove(core: Core, name: str, *, force: bool, no_prune: bool) -> list[docker.ImageDeleteResponseItem]:
    """Untag an image, and remove what nothing names any more."""
    removed = core.images.remove(name, lambda image_id: in_use(core, image_id), force=force, no_prune=no_prune)
    items = []
    for one in removed:
        untagged = one.what == "Untagged"
        core.bus.tell("image", "untag" if untagged else "delete", one.name, {"name": one.name})
        items.append(
            docker.ImageDeleteResponseItem(untagged=one.name)
            if untagged
            else docker.ImageDeleteResponseItem(deleted=one.name)
        )
    return items


def history(core: Core, name: str) -> list[docker.ImageHistoryResponseItem]:
    """Return how an image was made, topmost first."""
    return [
        docker.ImageHistoryResponseItem(
            id=row.id,
            created=row.created,
            created_by=row.created_by,
            size=row.size,
            comment=row.comment,
            tags=row.tags or None,
        )
        for row in core.images.history(core.images.resolve(name))
    ]


# ---------------------------------------------------------------------------------------------------------- lists


def images(core: Core, *, all: bool, filters: Filters) -> list[docker.ImageSummary]:
    """Return the newest first."""
    for name in filters:
        if name not in _FILTERS:
            raise InvalidInput(f"invalid filter '{name}'", f"there are {', '.join(sorted(_FILTERS))}")
    candidates = (_with_names(image, filters.get("reference")) for image in core.images.list(all))
    found = [image for image in candidates if image is not None and _passes(core, image, filters)]
    users: dict[str, int] = {}
    for container in core.registry:
        users[container.image_id] = users.get(container.image_id, 0) + 1
    return [_summary(image, users.get(image.id, 0)) for image in sorted(found, key=_created, reverse=True)]


def _with_names(image: Image, patterns: Collection[str] | None) -> Image | None:
    """Return the image with those of its names only that a reference filter asks for; None if there are none."""
    if not patterns:
        return image
    tags = tuple(tag for tag in image.repo_tags if matches_any(patterns, tag))
    digests = tuple(name for name in image.repo_digests if matches_any(patterns, name))
    return msgspec.structs.replace(image, repo_tags=tags, repo_digests=digests) if tags or digests else None


def _created(image: Image) -> int:
    return parse_timestamp(image.created) if image.created else 0


def _summary(image: Image, users: int) -> docker.ImageSummary:
    return docker.ImageSummary(
        id=image.id,
        created=_created(image) // 10**9,
        labels=image.config.execution.labels,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        size=image.size,
        containers=users,
    )


def _passes(core: Core, image: Image, filters: Filters) -> bool:
    labels = image.config.execution.labels or {}
    for name, values in filters.items():
        if name == "label":
            if not all(has_label(labels, value) for value in values):
                return False
        elif name == "dangling":
            wanted = _truth(values)
            if wanted == bool(image.repo_tags):
                return False
        elif name == "reference":  # `_with_names` has looked
            continue
        elif name == "until":
            if not all(_created(image) < parse_timestamp(v) for v in values):
                return False
        else:
            others = [_created(core.images.resolve(v)) for v in values]
            mine = _created(image)
            if not any(mine < other if name == "before" else mine > other for other in others):
                return False
    return True


def _truth(values: tuple[str, ...]) -> bool:
    text = values[0].lower() if values else ""
    if text not in ("true", "false", "1", "0"):
        raise InvalidInput(f"invalid filter 'dangling={text}'", "it is true or false")
    return text in ("true", "1")


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Match `name[:tag]` or `name@digest`; a bare name matches each of its tags and digests. * stops at a slash."""
    bare = name.partition("@")[0] if "@" in name else name.rpartition(":")[0]
    return any(_matches(pattern.split("/"), text.split("/")) for pattern in patterns for text in (name, bare))


def _matches(pattern: list[str], text: list[str]) -> bool:
    return len(pattern) == len(text) and all(map(fnmatchcase, text, (part.replace("[^", "[!") for part in pattern)))


def inspect(core: Core, name: str) -> docker.ImageInspect:
    """Return everything about an image."""
    image = core.images.resolve(name)
    config = image.config
    layers = [core.dirs.layer(diff_id) + "/diff" for diff_id in reversed(image.diff_ids)]
    data = {"UpperDir": layers[0], "LowerDir": ":".join(layers[1:])} if layers else {}
    return docker.ImageInspect(
        id=image.id,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        comment=config.comment or next((e.comment for e in reversed(config.history or ()) if e.comment), ""),
        created=config.created or "",
        docker_version=config.docker_version or "",
        author=config.author or "",
        config=_config(config.execution),
        architecture=image.architecture,
        variant=config.variant or "",
        os=image.os or "linux",
        size=image.size,
        graph_driver=docker.GraphDriver(name="overlay2", data=data),
        root_fs=docker.RootFs(layers=image.diff_ids),
        metadata=docker.ImageMetadata(
            last_tag_time=format_timestamp(image.last_tagged_ns) if image.last_tagged_ns else ZERO_TIME
        ),
    )


def _config(execution: ExecutionConfig) -> docker.ImageConfig:
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(docker.ImageConfig):
        value = getattr(execution, field.name, None)
        if value is not None and field.name != "healthcheck":
            given[field.name] = value
    if execution.healthcheck is not None:
        given["healthcheck"] = msgspec.convert(execution.healthcheck, docker.HealthConfig, from_attributes=True)
    return docker.ImageConfig(**given)


def layers_size(core: Core) -> int:
    """Return the bytes of all layers, each counted once."""
    sizes: dict[str, int] = {}
    for image in core.images.list():
        sizes.update(zip(image.diff_ids, image.layer_sizes, strict=False))
    return sum(sizes.values())
