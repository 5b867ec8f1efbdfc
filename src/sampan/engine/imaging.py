"""Images: what the image store does, with the engine's workers to unpack and its containers as users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.build.changes import apply
from sampan.engine import directories
from sampan.engine.unpacking import Unpacker
from sampan.errors import InvalidInput
from sampan.image import archive, platforms
from sampan.spec import docker
from sampan.spec.image import ExecutionConfig, Use

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.engine.core import Core
    from sampan.image.compression import Readable
    from sampan.spec.distribution import Progress
    from sampan.spec.image import Removal

    Report = Callable[[Progress], None]


def load(core: Core, stream: Readable, *, platform: str | None = None, progress: Report) -> list[str]:
    """Take in an archive of images; return the lines that Docker prints."""
    wanted = platforms.parse(platform) if platform else None
    with Unpacker(core) as unpacker:
        limits = core.settings.read().limits
        lines = archive.load(core.images, stream, unpack=unpacker, progress=progress, platform=wanted, limits=limits)
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
        ref=core.reference(reference) if reference else None,
        execution=apply(ExecutionConfig(), changes),
        message=message,
        platform=platforms.parse(platform) if platform else None,
        unpack=Unpacker(core),
    )
    core.bus.tell("image", "import", image.id, {"name": reference or image.id})
    return image.id


def tag(core: Core, name: str, repository: str, tag_name: str | None) -> None:
    """Give an image another name."""
    if not repository:
        raise InvalidInput("repository name must have at least one component", "name the new tag: repository:tag")
    image = core.images.resolve(name)
    reference = core.reference(f"{repository}:{tag_name}" if tag_name else repository)
    core.images.tag(image, reference)
    core.bus.tell("image", "tag", image.id, {"name": reference.familiar()})


def in_use(core: Core, image_id: str) -> list[Use]:
    """Return the containers that need an image."""
    return [Use(c.id, c.active) for c in core.registry if image_id in c.image_ids]


def remove(core: Core, name: str, *, force: bool, no_prune: bool) -> tuple[Removal, ...]:
    """Untag an image, and remove what nothing names any more."""
    removed = core.images.remove(name, lambda image_id: in_use(core, image_id), force=force, no_prune=no_prune)
    for one in removed:
        action = "untag" if one.what == "Untagged" else "delete"
        core.bus.tell("image", action, one.name, {"name": one.name})
    return removed


def response_item(removal: Removal) -> docker.ImageDeleteResponseItem:
    """Return a line of what was removed in Docker's form."""
    if removal.what == "Untagged":
        return docker.ImageDeleteResponseItem(untagged=removal.name)
    return docker.ImageDeleteResponseItem(deleted=removal.name)


def untag(core: Core, name: str, names: tuple[str, ...]) -> list[docker.ImageDeleteResponseItem]:
    """Take names of an image away, all of them if none is given; unlike `remove` this leaves the image."""
    image = core.images.resolve(name)
    wanted = core.images.untag(image, names)
    for reference in wanted:
        core.bus.tell("image", "untag", image.id, {"name": reference.familiar()})
    return [docker.ImageDeleteResponseItem(untagged=reference.familiar()) for reference in wanted]
