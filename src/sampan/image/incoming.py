"""An image from any source into the store: layers that aren't here are unpacked, several at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, doing
from sampan.ids import check_digest, short
from sampan.image.feed import AT_ONCE, Feeder
from sampan.image.manifest import image_of
from sampan.image.transfer import Reporter, Words, small
from sampan.spec.distribution import check_layer_type
from sampan.spec.image import decode_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.image.layers import Pins, Unpacker
    from sampan.image.manifest import Document
    from sampan.image.store import Images
    from sampan.image.transfer import OnProgress, Source
    from sampan.spec.distribution import Descriptor
    from sampan.spec.image import Image
    from sampan.spec.reference import Reference


def take(
    images: Images,
    source: Source,
    document: Document,
    *,
    tags: Sequence[Reference],
    unpack: Unpacker,
    progress: OnProgress,
    keep: bool = True,
) -> Image:
    """Take in the image whose manifest `document` is, and name it. Without `keep` the manifest is forgotten."""
    for tag in tags:
        images.check_name(tag)
    manifest = image_of(document)
    config = small(source, manifest.config)
    diff_ids = decode_config(config).diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise InvalidInput(
            f"can't use manifest {document.digest}: {len(manifest.layers)} layers, {len(diff_ids)} diff ids"
        )
    for layer in manifest.layers:
        check_layer_type(layer)
        check_digest(layer.digest)
    layers = {check_digest(diff_id): layer for diff_id, layer in zip(diff_ids, manifest.layers, strict=True)}
    with images.working() as pins:
        _Layers(images, source, pins, Reporter(progress, Words())).fetch(layers, unpack)
        return images.add(config, manifest=document.raw if keep else None, tags=tags, origin=source.repository)


class _Layers:
    def __init__(self, images: Images, source: Source, pins: Pins, reporter: Reporter) -> None:
        self._layers = images.layers
        self._source = source
        self._pins = pins
        self._reporter = reporter

    def fetch(self, layers: dict[str, Descriptor], unpack: Unpacker) -> None:
        missing = {}
        for diff_id, layer in layers.items():
            here = self._pins.add(diff_id) is not None
            self._reporter.say("Already exists" if here else "Preparing", short(layer.digest))
            if not here:
                missing[diff_id] = layer
        with Feeder(unpack) as feeder:
            self._reporter.each(lambda item: self._fetch(feeder, *item), tuple(missing.items()), AT_ONCE)

    def _fetch(self, feeder: Feeder, diff_id: str, layer: Descriptor) -> None:
        id = short(layer.digest)
        with doing(f"can't copy layer {id}"), self._layers.scratch() as target:
            pieces = self._reporter.reported(self._source.blob(layer, 0), id, 0, layer.size)
            result = feeder.feed(pieces, target, digest=layer.digest, diff_id=diff_id).result()
            self._layers.adopt(target, result, self._pins)
        self._reporter.say("Copied", id)
