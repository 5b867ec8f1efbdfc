"""What a build made leaves the engine as files: an archive, or all files of the image as a tar."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Self

import msgspec

from sampan.engine import exporting, imaging, registries, saving
from sampan.engine.pushing import compression_of
from sampan.errors import InvalidInput, doing
from sampan.image.outgoing import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.engine.core import Core
    from sampan.image.archive_write import Writable
    from sampan.spec.build import BuildRequest, Built, Output
    from sampan.spec.image import Image

FILES = ("local", "tar", "oci", "docker")
"""The types of outputs that are files of the client's."""


class Outputs:
    """The outputs of one build that are files, in a `with`: what is built for them only does not stay in the store.

    `request` is what to build: without names, where no image is to be kept.
    """

    def __init__(self, core: Core, request: BuildRequest) -> None:
        self._core = core
        self._wanted = [(i, output) for i, output in enumerate(request.outputs) if output.type in FILES]
        self._names = request.tags
        self._annotations = request.annotations
        keeps = not request.outputs or any(output.type == "image" for output in request.outputs)
        self._known = None if keeps else frozenset(image.id for image in core.images.list())
        self._made: tuple[Image, ...] = ()
        self.request = request if keeps else msgspec.structs.replace(request, tags=())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for image in self._made:
            if self._known is not None and image.id not in self._known:
                imaging.remove(self._core, image.id, force=False, no_prune=False)

    def of(self, built: Built) -> Iterator[tuple[int, Callable[[Writable], None]]]:
        """Give each by its number in the request, with what writes it."""
        self._made = tuple(self._core.images.resolve(image.id) for image in built.images)
        for number, output in self._wanted:
            yield number, partial(self._archive if output.type in ("oci", "docker") else self._files, output)

    def _files(self, _: Output, out: Writable) -> None:
        if len(self._made) > 1:
            raise InvalidInput("can't write the output: it has the files of one platform", "choose it with --platform")
        (image,) = self._made
        with doing("can't write the output"):
            layers = self._core.snapshots.lowerdirs(image.diff_ids, host=image.host)
            for piece in exporting.pieces(self._core, layers):
                out.write(piece)

    def _archive(self, output: Output, out: Writable) -> None:
        names = output.attributes.get("name", "")
        given = (*self._names, *(name for name in names.split(",") if name))
        is_docker = output.type == "docker"
        with doing("can't write the output"), registries.Visit(self._core) as visit:
            references = list(dict.fromkeys(self._core.reference(name) for name in given))
            chosen = [(image, references) for image in self._made]
            options = _options(output, plain=is_docker)
            if not is_docker:  # whose manifest has none
                options = msgspec.structs.replace(options, annotations=self._annotations or None)
            saving.write(visit, chosen, options, docker=is_docker, out=lambda _: out)


def _options(output: Output, *, plain: bool) -> Options:
    """Return how the layers are compressed: a docker-archive's are not unless it is asked for."""
    attributes = output.attributes
    level = attributes.get("compression-level", "")
    if level and not level.isdecimal():
        raise InvalidInput(f"compression-level is a number, not {level[:20]!r}")
    kind = attributes.get("compression", "none" if plain else "").replace("uncompressed", "none")
    forced = attributes.get("force-compression") == "true"
    return Options(compression=compression_of(kind, int(level) if level else None), force=forced, lengths=False)
