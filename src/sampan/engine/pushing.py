"""Images leave the store for a registry: `push`; and what every way out has in common."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import InvalidInput, NotFound, doing
from sampan.image.compression import Compression
from sampan.image.files import pieces_of
from sampan.image.outgoing import Options, Outgoing, Sent, Ways, check_host
from sampan.image.transfer import Mover, Words
from sampan.spec.distribution import Progress
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.engine.core import Core
    from sampan.engine.registries import Visit
    from sampan.image.remote import RemoteImage
    from sampan.image.transfer import OnProgress, Opener
    from sampan.spec.distribution import AuthConfig
    from sampan.spec.image import Image

    Pushed = Callable[["PushResult"], None]

_PUSHING = Words(moving="Pushing", moved="Pushed")


class PushResult(msgspec.Struct, frozen=True, rename="pascal"):
    """What became of one tag, in Docker's names."""

    tag: str
    digest: str
    size: int


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """What a push or a save was asked for."""

    platform: str | None = None
    options: Options = Options()


def push(
    visit: Visit,
    name: str,
    tag: str,
    leaving: Leaving,
    *,
    auth: AuthConfig | None,
    progress: OnProgress,
    pushed: Pushed,
) -> None:
    """Push one tag of a repository, or with "" all that are here. `pushed` is called for each that is there then."""
    core = visit.core
    reference = core.reference(f"{name}:{tag}" if tag else name)
    if reference.digest is not None:
        raise InvalidInput("cannot push a digest reference", "push a tag")
    progress(Progress(status=f"The push refers to repository [{reference.name}]"))
    references = _tags(core, reference, all=not tag)
    images = [core.images.resolve(str(one), leaving.platform) for one in references]
    for image in images:
        check_host(image)
    for one, image in zip(references, images, strict=True):
        remote = visit.image(one, auth)
        with held(core, image), doing(f"can't push {one.familiar()}"):
            sent = outgoing(visit, image, leaving.options, Mover(remote, progress, _PUSHING), auth, one).send(one.name)
        _told(core, image, one, sent, progress)
        pushed(PushResult(one.tag or "", sent.document.digest, len(sent.document.raw)))


@contextlib.contextmanager
def held(core: Core, image: Image) -> Iterator[None]:
    """Keep an image's layers while it leaves, though it be removed meanwhile."""
    with core.images.working() as pins:
        for diff_id in image.diff_ids:
            pins.add(diff_id)
        yield


def _tags(core: Core, reference: Reference, *, all: bool) -> list[Reference]:
    here = [Reference.parse(text) for image in core.images.list() for text in image.repo_tags]
    here = sorted(one for one in here if one.name == reference.name)
    if not here:
        raise NotFound(
            f"An image does not exist locally with the tag: {reference.familiar_name()}",
            f"`sampan images` lists those that are here, `sampan tag IMAGE {reference.familiar_name()}` names one so",
        )
    if all:
        return here
    if reference not in here:
        raise NotFound(
            f"tag does not exist: {reference.familiar()}", f"there is {', '.join(one.tag or '' for one in here)}"
        )
    return [reference]


def _told(core: Core, image: Image, reference: Reference, sent: Sent, progress: OnProgress) -> None:
    """Say what the image is called now, and put it down."""
    digest, size = sent.document.digest, len(sent.document.raw)
    # The manifest that it came with stays: its blobs may be had again another time.
    manifest = sent.document.raw if image.manifest_digest is None else None
    with contextlib.suppress(NotFound):  # it may have been removed meanwhile
        core.images.resolve(image.id)
        core.images.add(
            image.raw_config, manifest=manifest, digests=(reference.with_digest(digest),), origin=reference.name
        )
    if sent.before is not None:
        progress(Progress(status=f"The digest is not {sent.before} any more: {sent.why}"))
    progress(Progress(status=f"{reference.tag}: digest: {digest} size: {size}"))
    core.bus.tell("image", "push", reference.familiar(), {"name": reference.familiar_name()})


def outgoing(
    visit: Visit,
    image: Image,
    options: Options,
    mover: Mover,
    auth: AuthConfig | None = None,
    target: Reference | None = None,
) -> Outgoing:
    """Make ready what sends an image. `auth` is for the registry of the `target`, where blobs may come from, too."""
    core = visit.core
    opened: dict[str, RemoteImage] = {}
    lock = threading.Lock()

    def origin(repository: str) -> RemoteImage:
        with lock:
            if repository not in opened:
                reference = Reference.parse(repository)
                same = target is not None and target.registry == reference.registry
                opened[repository] = visit.image(reference, auth if same else None)
            return opened[repository]

    ways = Ways(pack=visit.packer, kept=lambda digest: _kept(core, digest), layer=core.dirs.layer, origin=origin)
    return Outgoing(core.images, image, options, ways, mover)


def _kept(core: Core, digest: str) -> Opener | None:
    """Return what opens a blob of a layer that was kept."""
    file = core.images.open_blob(digest)
    if file is None:
        return None
    file.close()

    def pieces(offset: int) -> Iterator[bytes]:
        kept = core.images.open_blob(digest)
        if kept is None:
            raise NotFound(f"blob {digest} is here no more", "its image was removed meanwhile")
        with kept:
            yield from pieces_of(kept, offset)

    return pieces


def compression_of(kind: str, level: int | None) -> Compression:
    """Read podman's `--compression-format`, and none, and `--compression-level`."""
    match kind:
        case "" | "gzip":
            return Compression("gzip", level).check()
        case "zstd" | "none":
            return Compression(kind, level).check()
        case _:
            raise InvalidInput(f"unknown compression format {kind[:100]!r}", "there are gzip, zstd and none")
