"""Layers and images from any source into the store: what isn't here is unpacked as it comes, several layers at once."""

from __future__ import annotations

import enum
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

from sampan.errors import Failed, InvalidInput, doing
from sampan.ids import check_digest, short
from sampan.image import unfinished
from sampan.image.feed import AT_ONCE, Feeder
from sampan.image.manifest import image_of
from sampan.image.transfer import Reporter, Words, small
from sampan.spec.distribution import check_layer_type
from sampan.spec.image import decode_config

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from sampan.image.layers import Layers, Pins, Resume, Unpacker
    from sampan.image.manifest import Document
    from sampan.image.store import Images
    from sampan.image.transfer import OnProgress, Source
    from sampan.spec.distribution import Descriptor, Manifest
    from sampan.spec.image import Image, ImageConfig
    from sampan.spec.reference import Reference

    Say = Callable[["Step", Descriptor, int], None]


class Step(enum.Enum):
    """What is told of a layer; with MOVING, how many bytes have come."""

    HERE = enum.auto()
    MISSING = enum.auto()
    WAITING = enum.auto()  # for others to be done
    MOVING = enum.auto()
    COME = enum.auto()  # what is on its way to the disk is still to be hashed
    UNPACKED = enum.auto()
    KEPT = enum.auto()


def take(
    images: Images,
    source: Source,
    document: Document,
    *,
    tags: Sequence[Reference],
    unpack: Unpacker,
    resume: Resume = lambda _: None,
    progress: OnProgress,
    keep: bool = True,
) -> Image:
    """Take in the image whose manifest `document` is, and name it. Without `keep` the manifest is forgotten."""
    for tag in tags:
        images.check_name(tag)
    manifest = image_of(document)
    config = small(source, manifest.config)
    layers = layers_of(document, manifest, decode_config(config))
    reporter = Reporter(progress, Words())

    def say(step: Step, layer: Descriptor, count: int) -> None:
        match step:
            case Step.MOVING:
                reporter.say(reporter.words.moving, short(layer.digest), count, layer.size)
            case Step.HERE | Step.MISSING | Step.KEPT:
                words = {Step.HERE: "Already exists", Step.MISSING: "Preparing", Step.KEPT: "Copied"}
                reporter.say(words[step], short(layer.digest))
            case _:  # skopeo has no words for them
                pass

    with images.working() as pins:
        incoming = Incoming(images.layers, source.blob, unpack=unpack, resume=resume, say=say)
        incoming.fetch(layers, hold(pins, layers))
        return images.add(config, manifest=document.raw if keep else None, tags=tags, origin=source.repository)


def layers_of(document: Document, manifest: Manifest, config: ImageConfig) -> dict[str, Descriptor]:
    """Return an image's layers by diff id, lowest first; one that is there twice is here once. Raises InvalidInput."""
    if len(config.diff_ids) != len(manifest.layers):
        raise InvalidInput(
            f"can't use manifest {document.digest}: {len(manifest.layers)} layers, {len(config.diff_ids)} diff ids"
        )
    for diff_id, layer in zip(config.diff_ids, manifest.layers, strict=True):
        check_layer_type(layer)
        check_digest(layer.digest)
        check_digest(diff_id)
        if layer.size < 0:
            raise InvalidInput(f"can't use layer {layer.digest}: its size is {layer.size}")
    return dict(zip(config.diff_ids, manifest.layers, strict=True))


def hold(pins: Pins, layers: Mapping[str, Descriptor]) -> set[str]:
    """Pin the layers; return the diff ids of those that are here."""
    return {diff_id for diff_id in layers if pins.add(diff_id) is not None}


class Incoming:
    """Layers that come from one source, through `blob(layer, offset)`. They must be pinned."""

    def __init__(
        self,
        store: Layers,
        blob: Callable[[Descriptor, int], Iterator[bytes]],
        *,
        unpack: Unpacker,
        resume: Resume,
        say: Say,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        """`stop` lets `blob` fail where it waits, in any thread. `say` is called from several, one at a time."""
        self._store = store
        self._blob = blob
        self._unpack = unpack
        self._resume = resume
        self._tell = say
        self._lock = threading.Lock()
        self._stop_blob = stop
        self._failed = False

    def fetch(self, layers: Mapping[str, Descriptor], here: set[str]) -> None:
        """Get all that aren't here; the first failure stops the others."""
        for diff_id, layer in layers.items():
            self._say(Step.HERE if diff_id in here else Step.MISSING, layer)
        missing = {diff_id: layer for diff_id, layer in layers.items() if diff_id not in here}
        with Feeder(self._unpack) as feeder, ThreadPoolExecutor(AT_ONCE, thread_name_prefix="layer") as pool:
            jobs = [pool.submit(self._fetch, feeder, diff_id, layer) for diff_id, layer in missing.items()]
            for layer in list(missing.values())[AT_ONCE:]:
                self._say(Step.WAITING, layer)
            try:
                for job in as_completed(jobs):
                    job.result()
            except BaseException:
                self._failed = True
                self._stop_blob()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _fetch(self, feeder: Feeder, diff_id: str, layer: Descriptor) -> None:
        with (
            doing(f"can't get layer {short(layer.digest)}"),
            self._store.told(diff_id, lambda count: self._say(Step.MOVING, layer, count)),
            self._store.making(diff_id) as here,
        ):
            if here is None:
                self._make(feeder, diff_id, layer)
        self._say(Step.KEPT, layer)

    def _make(self, feeder: Feeder, diff_id: str, layer: Descriptor) -> None:
        key = unfinished.key(layer, diff_id)
        interrupted = self._resume(key)
        offset = interrupted.offset if interrupted is not None else 0
        with (
            closing(interrupted) if interrupted else nullcontext(),
            self._store.place(key, interrupted) as target,
            closing(self._pieces(diff_id, layer, offset)) as pieces,  # and with it the connection that they come by
        ):
            unpacked = feeder.feed(
                pieces,
                target,
                digest=layer.digest,
                diff_id=diff_id,
                size=layer.size,
                by=interrupted,
            )
            self._say(Step.COME, layer)
            result = unpacked.result()
            self._say(Step.UNPACKED, layer)
            self._store.keep(target, diff_id, result)

    def _pieces(self, diff_id: str, layer: Descriptor, count: int) -> Generator[bytes, None, None]:
        for piece in self._blob(layer, count):
            if self._failed:
                raise Failed("another layer failed")
            yield piece
            count += len(piece)
            self._store.tell(diff_id, count)

    def _say(self, step: Step, layer: Descriptor, count: int = 0) -> None:
        with self._lock:
            self._tell(step, layer, count)
