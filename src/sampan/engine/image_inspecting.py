"""`image inspect` and `history`: everything about an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sampan.engine.image_listing import manifest_summary, surroundings
from sampan.image import lineage
from sampan.image.history import history as steps
from sampan.spec import docker
from sampan.spec.decoding import convert
from sampan.units import ZERO_TIME, format_timestamp

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.spec.image import ExecutionConfig, Image


def inspect(core: Core, name: str, *, platform: str | None, manifests: bool) -> docker.ImageInspect:
    """Return everything about an image, which must be for that platform; with `manifests` also its manifest."""
    image = core.images.resolve(name, platform)
    config = image.config
    around = surroundings(core)
    layers = [core.dirs.layer(diff_id) + "/diff" for diff_id in reversed(image.diff_ids)]
    data = {"LowerDir": ":".join(layers[1:])} if layers[1:] else {}
    if layers:
        data["UpperDir"] = layers[0]
    manifest = manifest_summary(core, image, around.users.get(image.id, ()))
    return docker.ImageInspect(
        id=image.id,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        parent=around.parents.get(image.id, ""),
        comment=config.comment or (config.history[-1].comment if config.history else "") or "",
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
        descriptor=manifest.descriptor if image.manifest_digest else None,
        manifests=(manifest,) if manifests else None,
    )


def _config(execution: ExecutionConfig) -> docker.ImageConfig:
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(docker.ImageConfig):
        value = getattr(execution, field.name, None)
        if value is not None and field.name != "healthcheck":
            given[field.name] = value
    if execution.healthcheck is not None:
        given["healthcheck"] = convert(execution.healthcheck, docker.HealthConfig, from_attributes=True)
    return docker.ImageConfig(**given)


def history(core: Core, name: str, platform: str | None) -> list[docker.ImageHistoryResponseItem]:
    """Return how an image was made, topmost first."""
    image = core.images.resolve(name, platform)
    return [
        docker.ImageHistoryResponseItem(
            id=row.id,
            created=row.created,
            created_by=row.created_by,
            size=row.size,
            comment=row.comment,
            tags=row.tags or None,
        )
        for row in steps(image, _ancestors(core, image))
    ]


def _ancestors(core: Core, image: Image) -> dict[int, Image]:
    """Return what the image was made from, by the number of steps of each."""
    images = {other.id: other for other in core.images.list(all=True)}
    parents = lineage.parents(images.values())
    found = {}
    id = image.id
    while (id := parents.get(id, "")) in images:
        found[len(images[id].config.history or ())] = images[id]
    return found
