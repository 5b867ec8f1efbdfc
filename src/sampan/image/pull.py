"""Pull images: from a name to manifest and configuration, and its layers into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.errors import NotFound, SampanError
from sampan.ids import short
from sampan.image.blobs import digest_of
from sampan.image.incoming import Incoming, Step, hold, layers_of
from sampan.image.manifest import image_of
from sampan.image.remote import RemoteImage
from sampan.image.transfer import chosen
from sampan.spec.distribution import Descriptor, Platform, Progress
from sampan.spec.image import ImageConfig, decode_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.image.layers import Resume, Unpacker
    from sampan.image.registry import Repository
    from sampan.image.store import Images
    from sampan.spec.image import Image
    from sampan.spec.reference import Reference

    OnProgress = Callable[[Progress], None]

_WORDS = {
    Step.HERE: "Already exists",
    Step.MISSING: "Pulling fs layer",
    Step.WAITING: "Waiting",
    Step.MOVING: "Downloading",
    Step.COME: "Verifying Checksum",
    Step.UNPACKED: "Download complete",
    Step.KEPT: "Pull complete",
}
"""Docker's."""


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """What a name means at its registry: one image, of those in an index the one for a platform."""

    digest: str  # of what the name means, an index or a manifest
    manifest: bytes
    config: bytes
    view: ImageConfig
    layers: dict[str, Descriptor]  # by diff id, lowest first; a layer that is there twice is here once

    @property
    def id(self) -> str:
        """The id that the image has here."""
        return digest_of(self.config)


def look_up(repository: Repository, ref: Reference, platform: Platform | None) -> Remote:
    """Fetch an image's manifest and configuration. `platform` None: this machine's."""
    source = RemoteImage(repository, ref)
    top = source.document()
    document = chosen(source, top, platform)
    manifest = image_of(document)
    config = repository.document(manifest.config)
    view = decode_config(config)
    layers = layers_of(document, manifest, view)
    return Remote(digest=top.digest, manifest=document.raw, config=config, view=view, layers=layers)


class Puller:
    """Pulls images of one repository. `repository.stop()` ends it early.

    Where it fails, what was unpacked may stay with its unpackers, and `resume` finds them the next time. `progress` is
    called from several threads, one at a time.
    """

    def __init__(
        self,
        images: Images,
        repository: Repository,
        *,
        unpack: Unpacker,
        resume: Resume = lambda _: None,
        progress: OnProgress,
        platform: Platform | None = None,
    ) -> None:
        self._images = images
        self._repository = repository
        self._unpack = unpack
        self._resume = resume
        self._progress = progress
        self._platform = platform

    def pull(self, ref: Reference) -> Image:
        """Fetch what of an image isn't here yet, and name it."""
        image, is_new = self._pull(ref)
        self._conclude(ref.familiar(), is_new=is_new)
        platform = self._platform
        offered = image.config.platform
        if platform is not None and (offered.os, offered.architecture) != (platform.os, platform.architecture):
            # As Docker has it: a tag that is no index has but one image, and that is what people mean.
            self._say(
                f"WARNING: image with reference {ref.familiar_name()} was found but does not match the specified "
                f"platform: wanted {platform.familiar()}, actual: {offered.familiar()}"
            )
        return image

    def pull_all(self, ref: Reference) -> tuple[Image, ...]:
        """Pull all tags of a repository."""
        pulled = [self._pull(ref.with_tag(tag)) for tag in self._repository.tags()]
        if not pulled:
            raise NotFound(f"can't pull {ref.familiar_name()}: the repository has no tags")
        self._conclude(ref.familiar_name(), is_new=any(is_new for _, is_new in pulled))
        return tuple(image for image, _ in pulled)

    def _pull(self, ref: Reference) -> tuple[Image, bool]:
        images = self._images
        images.check_name(ref)
        remote = look_up(self._repository, ref, self._platform)
        name = f"{ref.name}@{ref.digest}" if ref.digest else ref.tag
        self._progress(Progress(status=f"Pulling from {ref.repository}", id=name))
        before = _current(images, str(ref))
        with images.working() as pins:
            here = hold(pins, remote.layers)
            if len(here) < len(remote.layers) or _current(images, remote.id) is None:
                self._fetch(remote, here)
            tags = (ref,) if ref.digest is None else ()
            digests = (ref.with_digest(remote.digest),)
            image = images.add(remote.config, manifest=remote.manifest, tags=tags, digests=digests, origin=ref.name)
        self._say(f"Digest: {remote.digest}")
        return image, before != image.id

    def _fetch(self, remote: Remote, here: set[str]) -> None:
        sizes = {short(layer.digest): layer.size for diff_id, layer in remote.layers.items() if diff_id not in here}
        self._progress(Progress(status="", sizes=sizes))
        incoming = Incoming(
            self._images.layers,
            self._repository.blob,
            unpack=self._unpack,
            resume=self._resume,
            say=self._step,
            stop=self._repository.stop,
        )
        incoming.fetch(remote.layers, here)

    def _step(self, step: Step, layer: Descriptor, count: int) -> None:
        moving = step is Step.MOVING
        self._progress(
            Progress(
                status=_WORDS[step],
                id=short(layer.digest),
                current=count if moving else None,
                total=layer.size if moving else None,
            )
        )

    def _conclude(self, name: str, *, is_new: bool) -> None:
        self._say(f"Status: {'Downloaded newer image' if is_new else 'Image is up to date'} for {name}")

    def _say(self, text: str) -> None:
        self._progress(Progress(status=text))


def _current(images: Images, name: str) -> str | None:
    try:
        return images.resolve(name).id
    except SampanError:
        return None
