"""Pull images: manifest, configuration, then all missing layers at once, each from the socket into its unpacker."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import InvalidInput, NotFound, SampanError, doing
from sampan.ids import check_digest, short
from sampan.image import unfinished
from sampan.image.blobs import digest_of
from sampan.image.feed import AT_ONCE, Feeder
from sampan.image.manifest import image_of
from sampan.image.remote import RemoteImage
from sampan.image.transfer import chosen
from sampan.spec.distribution import Descriptor, Platform, Progress, check_layer_type
from sampan.spec.image import ImageConfig, decode_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.image.layers import Pins, Resume, Unpacker
    from sampan.image.registry import Repository
    from sampan.image.store import Images
    from sampan.spec.image import Image
    from sampan.spec.reference import Reference

    OnProgress = Callable[[Progress], None]


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
    if len(view.diff_ids) != len(manifest.layers):
        raise InvalidInput(
            f"can't use manifest {document.digest}: {len(manifest.layers)} layers, {len(view.diff_ids)} diff ids"
        )
    for diff_id, layer in zip(view.diff_ids, manifest.layers, strict=True):
        check_layer_type(layer)
        check_digest(layer.digest)
        check_digest(diff_id)
        if layer.size < 0:
            raise InvalidInput(f"can't use layer {layer.digest}: its size is {layer.size}")
    layers = dict(zip(view.diff_ids, manifest.layers, strict=True))
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
        self._progress = _serialized(progress)
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
            known = _current(images, remote.id) is not None
            _Layers(self._repository, images, pins, self._resume, self._progress).fetch(
                remote, self._unpack, known=known
            )
            tags = (ref,) if ref.digest is None else ()
            digests = (ref.with_digest(remote.digest),)
            image = images.add(remote.config, manifest=remote.manifest, tags=tags, digests=digests, origin=ref.name)
        self._say(f"Digest: {remote.digest}")
        return image, before != image.id

    def _conclude(self, name: str, *, is_new: bool) -> None:
        self._say(f"Status: {'Downloaded newer image' if is_new else 'Image is up to date'} for {name}")

    def _say(self, text: str) -> None:
        self._progress(Progress(status=text))


def _current(images: Images, name: str) -> str | None:
    try:
        return images.resolve(name).id
    except SampanError:
        return None


class _Layers:
    """Fetches the layers of one image."""

    def __init__(
        self, repository: Repository, images: Images, pins: Pins, resume: Resume, progress: OnProgress
    ) -> None:
        self._repository = repository
        self._store = images.layers
        self._pins = pins
        self._resume = resume
        self._progress = progress

    def fetch(self, remote: Remote, unpack: Unpacker, *, known: bool) -> None:
        """Get all that aren't here; of an image that is `known` and whole say nothing. The first failure stops all."""
        here = {diff_id: self._pins.add(diff_id) is not None for diff_id in remote.layers}
        missing = {diff_id: layer for diff_id, layer in remote.layers.items() if not here[diff_id]}
        if known and not missing:
            return
        for diff_id, layer in remote.layers.items():
            self._say("Already exists" if here[diff_id] else "Pulling fs layer", layer)
        self._progress(Progress(status="", sizes={short(layer.digest): layer.size for layer in missing.values()}))
        with Feeder(unpack) as feeder, ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pull") as pool:
            jobs = [pool.submit(self._fetch, feeder, diff_id, layer) for diff_id, layer in missing.items()]
            for layer in list(missing.values())[AT_ONCE:]:
                self._say("Waiting", layer)
            try:
                for job in as_completed(jobs):
                    job.result()
            except BaseException:
                self._repository.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _fetch(self, feeder: Feeder, diff_id: str, layer: Descriptor) -> None:
        with (
            doing(f"can't pull layer {short(layer.digest)}"),
            self._store.told(diff_id, lambda count: self._count(layer, count)),
            self._store.making(diff_id) as here,
        ):
            if here is None:
                self._make(feeder, diff_id, layer)
        self._say("Pull complete", layer)

    def _make(self, feeder: Feeder, diff_id: str, layer: Descriptor) -> None:
        key = unfinished.key(layer, diff_id)
        interrupted = self._resume(key)
        offset = interrupted.offset if interrupted is not None else 0
        with closing(interrupted) if interrupted else nullcontext(), self._store.place(key, interrupted) as target:
            unpacked = feeder.feed(
                self._pieces(diff_id, layer, offset),
                target,
                digest=layer.digest,
                diff_id=diff_id,
                size=layer.size,
                by=interrupted,
            )
            self._say("Verifying Checksum", layer)  # what is still on its way to the disk is being hashed
            result = unpacked.result()
            self._say("Download complete", layer)
            self._store.keep(target, diff_id, result)

    def _pieces(self, diff_id: str, layer: Descriptor, count: int) -> Iterator[bytes]:
        for piece in self._repository.blob(layer, count):
            yield piece
            count += len(piece)
            self._store.tell(diff_id, count)

    def _say(self, status: str, layer: Descriptor) -> None:
        self._progress(Progress(status=status, id=short(layer.digest)))

    def _count(self, layer: Descriptor, count: int) -> None:
        """Say how much of a layer has come, here or where another pull fetches it."""
        self._progress(Progress(status="Downloading", id=short(layer.digest), current=count, total=layer.size))


def _serialized(progress: OnProgress) -> OnProgress:
    lock = threading.Lock()

    def report(event: Progress) -> None:
        with lock:
            progress(event)

    return report
