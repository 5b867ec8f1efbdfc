"""Images leave the store in an archive: `save`."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from sampan.engine.pushing import held, outgoing
from sampan.errors import InvalidInput, NotFound, doing
from sampan.image.archive_write import ArchiveWriter
from sampan.image.outgoing import check_host
from sampan.image.transfer import Mover, Words
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from sampan.engine.core import Core
    from sampan.engine.pushing import Leaving
    from sampan.engine.registries import Visit
    from sampan.image.archive_write import Writable
    from sampan.image.outgoing import Options, Outgoing
    from sampan.spec.distribution import Progress
    from sampan.spec.image import Image


def save(
    visit: Visit,
    names: Sequence[str],
    leaving: Leaving,
    *,
    docker: bool,
    out: Callable[[tuple[str, ...]], Writable],
) -> None:
    """Write images into an archive, each with the names that were asked for.

    `out` is called once it is known that it can be done, with sentences on images that can't keep their digests.
    """
    write(visit, tuple(_chosen(visit.core, names, leaving.platform)), leaving.options, docker=docker, out=out)


def write(
    visit: Visit,
    chosen: Sequence[tuple[Image, list[Reference]]],
    options: Options,
    *,
    docker: bool,
    out: Callable[[tuple[str, ...]], Writable],
) -> None:
    """Write images into an archive, each under these names, which need not be those that it has here."""
    core = visit.core
    target = _Target()
    writer = ArchiveWriter(target, docker=docker, scratch=core.dirs.tmp)
    with ExitStack() as holding:
        for image, _ in chosen:
            holding.enter_context(held(core, image))
        planned = [_planned(visit, image, references, writer, options) for image, references in chosen]
        target.out = out(tuple(note for *_, note in planned if note))
        for name, image, one, _ in planned:
            with doing(f"can't save {name}"):
                one.send()
            core.bus.tell("image", "save", image.id, {"name": image.id})
    writer.close()


def _planned(
    visit: Visit, image: Image, references: list[Reference], writer: ArchiveWriter, options: Options
) -> tuple[str, Image, Outgoing, str]:
    """Make an image ready to be sent: what it is called, and a sentence if it can't keep its digest and should."""
    name = references[0].familiar() if references else image.id
    with doing(f"can't save {name}"):
        mover = Mover(writer.image(references), _silent, Words())
        one = outgoing(visit, image, options, mover)
        why = one.plan()
    note = f"{name}: the digest is not {image.manifest_digest} any more: {why}" if why and options.lengths else ""
    return name, image, one, note


class _Target:
    """What an archive goes to, which is opened when all is found."""

    out: Writable

    def write(self, data: bytes, /) -> object:
        """Pass it on."""
        return self.out.write(data)

    def direct(self, size: int, /) -> AbstractContextManager[int]:
        """Pass it on."""
        return self.out.direct(size)


def _silent(_: Progress) -> None:
    pass


def _chosen(core: Core, names: Sequence[str], platform: str | None) -> Iterator[tuple[Image, list[Reference]]]:
    """Find the images, each once, with the names that they are saved under: a repository's name means all its tags."""
    found: dict[str, tuple[Image, list[Reference]]] = {}
    for name in names:
        try:
            named = tuple(_named(core, name, platform))
        except NotFound as e:
            known = e.message.startswith("No such image")
            raise NotFound(f"No such image: {name}" if known else e.message, e.hint) from e
        for image, reference in named:
            check_host(image)
            _, references = found.setdefault(image.id, (image, []))
            if reference is not None and reference not in references:
                references.append(reference)
    yield from found.values()


def _named(core: Core, name: str, platform: str | None) -> Iterator[tuple[Image, Reference | None]]:
    if ":" not in name.rpartition("/")[2] and "@" not in name:
        tags = [
            (image, reference)
            for image in core.images.list()
            for reference in map(Reference.parse, image.repo_tags)
            if name in (reference.familiar_name(), reference.name)
        ]
        if tags:
            for _, reference in tags:
                yield core.images.resolve(str(reference), platform), reference
            return
    image = core.images.resolve(name, platform)
    named = {Reference.parse(tag) for tag in image.repo_tags}
    with suppress(InvalidInput):  # an id is no name
        for wanted in (core.reference(name), Reference.parse(name)):
            if wanted in named:
                yield image, wanted
                return
    yield image, None
