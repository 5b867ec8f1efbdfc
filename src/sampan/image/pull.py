"""Pull an image: manifest, configuration, then all missing layers at once, each from the socket into its unpacker."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, NotFound, SampanError, doing
from sampan.ids import check_digest, short
from sampan.image import unfinished
from sampan.image.blobs import digest_of
from sampan.image.feed import AT_ONCE, Feeder
from sampan.spec.distribution import (
    CONFIGS,
    Descriptor,
    Manifest,
    Platform,
    Progress,
    check_layer_type,
    choose,
    decode_manifest,
)
from sampan.spec.image import Image, decode_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.image.layers import Pins, Resume, Unpacker
    from sampan.image.registry import Repository
    from sampan.image.store import Images
    from sampan.spec.reference import Reference

    OnProgress = Callable[[Progress], None]

_REPORT_EVERY_S = 0.1
_DEEPEST_INDEX = 4


def pull(
    images: Images,
    repository: Repository,
    ref: Reference,
    *,
    unpack: Unpacker,
    resume: Resume = lambda _: None,
    progress: OnProgress,
    platform: Platform | None = None,
) -> Image:
    """Fetch what of an image isn't here yet, and name it. `progress` is called from several threads, one at a time.

    `platform` None: this machine's. `repository.stop()` ends it early. Where it fails, what was unpacked may stay with
    its unpackers, and `resume` finds them the next time.
    """
    images.check_name(ref)
    say = _serialized(progress)
    digest, raw, manifest = _manifest(repository, ref, platform)
    say(Progress(status=f"Pulling from {ref.repository}", id=ref.digest or ref.tag))
    before = _current(images, ref)
    with images.working() as pins:
        config = repository.document(_checked_config(manifest.config))
        layers = _layers(config, digest, manifest, platform=platform, ref=ref)
        _Layers(images, repository, pins, resume, say).fetch(layers, unpack)
        tags = (ref,) if ref.digest is None else ()
        image = images.add(config, manifest=raw, tags=tags, digests=(ref.with_digest(digest),), origin=ref.name)
    say(Progress(status=f"Digest: {digest}"))
    news = "Image is up to date" if before == image.id else "Downloaded newer image"
    say(Progress(status=f"Status: {news} for {ref.familiar()}"))
    return image


def _layers(
    config: bytes, digest: str, manifest: Manifest, *, platform: Platform | None, ref: Reference
) -> dict[str, Descriptor]:
    """Return an image's layers by diff id; refuse one for another platform."""
    view = decode_config(config)
    if platform is not None and (view.os, view.architecture) != (platform.os, platform.architecture):
        raise NotFound(
            f"image with reference {ref.familiar()} was found but does not match the specified platform: "
            f"wanted {platform}, actual: {view.platform}"
        )
    if len(view.diff_ids) != len(manifest.layers):
        raise InvalidInput(f"can't use manifest {digest}: {len(manifest.layers)} layers, {len(view.diff_ids)} diff ids")
    for diff_id, layer in zip(view.diff_ids, manifest.layers, strict=True):
        check_layer_type(layer)
        check_digest(layer.digest)
        check_digest(diff_id)
    return dict(zip(view.diff_ids, manifest.layers, strict=True))


def _manifest(repository: Repository, ref: Reference, platform: Platform | None) -> tuple[str, bytes, Manifest]:
    """Go down from the name to one image's manifest; return the digest of what the name means, and the manifest."""
    wanted = platform or Platform.of_machine(os.uname().machine)
    raw, media_type = repository.manifest(ref.digest or ref.tag or "latest")
    digest = ref.digest or digest_of(raw)
    for _ in range(_DEEPEST_INDEX):
        manifest = decode_manifest(raw, media_type)
        if isinstance(manifest, Manifest):
            return digest, raw, manifest
        entry = choose(manifest.manifests, wanted)
        if entry is None:
            offered = ", ".join(sorted({str(m.platform) for m in manifest.manifests if m.platform is not None}))
            raise NotFound(
                f"no matching manifest for {wanted} in the manifest list entries", f"there is: {offered or 'nothing'}"
            )
        raw, _ = repository.manifest(check_digest(entry.digest))
        media_type = entry.media_type
        if len(raw) != entry.size:
            raise InvalidInput(
                f"can't use manifest {entry.digest}: it has {len(raw)} bytes and should have {entry.size}"
            )
    raise InvalidInput(f"can't use {digest}: indexes in indexes, {_DEEPEST_INDEX} deep")


def _checked_config(config: Descriptor) -> Descriptor:
    if config.media_type not in CONFIGS:
        raise InvalidInput(
            f"can't pull it: it is no container image: its configuration is {config.media_type}", "it is an artifact"
        )
    check_digest(config.digest)
    return config


def _current(images: Images, ref: Reference) -> str | None:
    try:
        return images.resolve(str(ref)).id
    except SampanError:
        return None


class _Layers:
    """Fetches the layers of one image."""

    def __init__(
        self, images: Images, repository: Repository, pins: Pins, resume: Resume, progress: OnProgress
    ) -> None:
        self._store = images.layers
        self._repository = repository
        self._pins = pins
        self._resume = resume
        self._progress = progress

    def fetch(self, layers: dict[str, Descriptor], unpack: Unpacker) -> None:
        """Get all that aren't here: `layers` are descriptors by diff id. The first failure stops the others."""
        missing = {}
        for diff_id, layer in layers.items():
            here = self._pins.add(diff_id) is not None
            self._progress(Progress(status="Already exists" if here else "Pulling fs layer", id=short(layer.digest)))
            if not here:
                missing[diff_id] = layer
        if not missing:
            return
        with Feeder(unpack) as feeder, ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pull") as pool:
            jobs = [pool.submit(self._fetch, feeder, diff_id, layer) for diff_id, layer in missing.items()]
            for layer in list(missing.values())[AT_ONCE:]:
                self._progress(Progress(status="Waiting", id=short(layer.digest)))
            try:
                for job in as_completed(jobs):
                    job.result()
            except BaseException:
                self._repository.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _fetch(self, feeder: Feeder, diff_id: str, layer: Descriptor) -> None:
        id = short(layer.digest)
        with (
            doing(f"can't pull layer {id}"),
            self._store.told(diff_id, lambda count: self._count(layer, count)),
            self._store.making(diff_id) as here,
        ):
            if here is None:
                self._make(feeder, diff_id, layer)
        self._progress(Progress(status="Pull complete", id=id))

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
            self._progress(Progress(status="Download complete", id=short(layer.digest)))
            self._store.keep(target, diff_id, unpacked.result())

    def _pieces(self, diff_id: str, layer: Descriptor, count: int) -> Iterator[bytes]:
        reported = 0.0
        for piece in self._repository.blob(layer, count):
            yield piece
            count += len(piece)
            now = time.monotonic()
            if now - reported >= _REPORT_EVERY_S:
                reported = now
                self._store.tell(diff_id, count)

    def _count(self, layer: Descriptor, count: int) -> None:
        """Say how much of a layer has come, here or where another pull fetches it."""
        self._progress(Progress(status="Downloading", id=short(layer.digest), current=count, total=layer.size))


def _serialized(progress: OnProgress) -> OnProgress:
    lock = threading.Lock()

    def report(event: Progress) -> None:
        with lock:
            progress(event)

    return report
