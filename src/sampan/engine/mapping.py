"""`image map`: where an image's bytes are; a worker walks the layers, and names are put to what it finds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from sampan.engine.image_listing import layer_steps, shared_bytes, shown_name, surroundings
from sampan.errors import InvalidInput, Unsupported
from sampan.spec import docker
from sampan.spec.decoding import decode_json
from sampan.supervise import messages

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.requests import MapQuery
    from sampan.spec.image import Image

_WALK_S = 3600
_GREATEST = {"depth": 1000, "top": 10_000, "nodes": 20_000}


def image_map(core: Core, name: str, query: MapQuery) -> docker.ImageMap:
    """Return where an image's bytes are, which are wasted, and which images share its layers."""
    for field, greatest in _GREATEST.items():
        if not 0 <= getattr(query, field) <= greatest:
            raise InvalidInput(f"invalid {field}: {getattr(query, field)}", f"it is a number from 0 to {greatest}")
    image = core.images.resolve(name)
    if image.host:
        raise Unsupported(f"can't map {name}: it is this machine's own root and has no layers")
    with core.images.working() as pins:  # nobody removes a layer meanwhile
        for diff_id in image.diff_ids:
            pins.add(diff_id)
        found = _walked(core, image, query)
    return msgspec.structs.replace(
        found,
        id=image.id,
        repo_tags=image.repo_tags,
        platform=str(image.config.platform),
        shared_size=shared_bytes(image, surroundings(core)),
        layers=_named_layers(core, image, found),
    )


def _walked(core: Core, image: Image, query: MapQuery) -> docker.ImageMap:
    # Of a layer that is there twice overlayfs takes the upper one, which hides the other anyway.
    numbers = {diff_id: number for number, diff_id in enumerate(image.diff_ids, 1)}
    ordered = sorted(numbers.items(), key=lambda item: item[1])
    job = messages.Map(
        layers=tuple(core.dirs.layer(diff_id) for diff_id, _ in ordered),
        numbers=tuple(number for _, number in ordered),
        depth=query.depth,
        top=query.top,
        nodes=query.nodes,
    )
    channel = core.worker()
    try:
        with open(os.memfd_create("map", os.MFD_CLOEXEC), "w+b") as file:
            channel.ask(job, messages.Done, (file.fileno(),), timeout_s=_WALK_S)
            file.seek(0)
            return decode_json(file.read(), docker.ImageMap)
    finally:
        channel.close()


def _named_layers(core: Core, image: Image, found: docker.ImageMap) -> tuple[docker.MapLayer, ...]:
    walked = {layer.number: layer for layer in found.layers}
    others = [other for other in core.images.list(all=True) if other.id != image.id]
    return tuple(
        msgspec.structs.replace(
            walked.get(number) or docker.MapLayer(number=number),
            diff_id=diff_id,
            created_by=step,
            shared_with=tuple(shown_name(other) for other in others if diff_id in other.diff_ids),
        )
        for number, (diff_id, step) in enumerate(zip(image.diff_ids, layer_steps(image), strict=True), 1)
    )
