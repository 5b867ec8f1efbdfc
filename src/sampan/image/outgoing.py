"""Images of the store on their way to a sink: which of the forms that their layers had can still be had.

An image's digest is that of its manifest, which names compressed blobs, and those are not kept. So it stays only if
each of them is at the sink, can be mounted there, was kept, or is fetched once more from where it came, straight to the
sink. If one can't be had, its layer is compressed anew, the manifest is made anew, and the digest is another; the
configuration, and with it the image's id, is the same always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.errors import Failed, InvalidInput, NotFound, SampanError, doing
from sampan.ids import short
from sampan.image.archive_write import ArchiveImage
from sampan.image.compression import Compression
from sampan.image.feed import packed
from sampan.image.manifest import Document, Format, image_manifest, image_of, kind_of_layer, layer_type
from sampan.image.transfer import Blob, Checked, after
from sampan.spec.distribution import Descriptor, Manifest
from sampan.spec.image import BlobFact
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from sampan.image.layers import Packer
    from sampan.image.remote import RemoteImage
    from sampan.image.store import Images
    from sampan.image.transfer import Mover
    from sampan.spec.image import Image


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How an image leaves."""

    format: Format | None = None  # None: that of its manifest, else OCI
    compression: Compression = Compression()  # of what is compressed here
    force: bool = False  # all layers have this compression, whatever there is of them in others
    lengths: bool = True  # whether it goes to lengths to keep its digest: fetches blobs from where they came
    annotations: dict[str, str] | None = None


class Sent(msgspec.Struct, frozen=True):
    """What has left: `before` is the digest that it had if it has another one now, and `why` says why."""

    document: Document
    before: str | None = None
    why: str = ""


class Ways(NamedTuple):
    """How a layer's bytes are had."""

    pack: Packer
    kept: Callable[[str], Callable[[int], Iterator[bytes]] | None]  # the bytes of a blob that was kept
    layer: Callable[[str], str]  # the directory of a diff id
    origin: Callable[[str], RemoteImage]  # a registry/repository to fetch from


class _Layer(msgspec.Struct, frozen=True, kw_only=True):
    diff_id: str
    wanted: Descriptor | None  # as the image's own manifest has it
    facts: tuple[BlobFact, ...]
    came_as: str | None  # digest of what it was unpacked from
    names: tuple[str, ...]  # registry/repository that the image was pulled from or pushed to

    @property
    def title(self) -> str:
        return short(self.diff_id)

    def origins(self, digest: str) -> tuple[str, ...]:
        """Where a blob may be. What the image's own manifest names is where the image is, whether seen there or not."""
        seen = next((fact.origins for fact in self.facts if fact.digest == digest), ())
        own = self.names if self.wanted is not None and self.wanted.digest == digest else ()
        return tuple(dict.fromkeys((*seen, *own)))

    def knows(self, digest: str) -> bool:
        """Whether a blob was seen to be this layer: a manifest's word alone is none."""
        return any(fact.digest == digest for fact in self.facts)

    def was_packed_here(self, digest: str) -> bool:
        """What is known of a layer and is not what came was made of it here, and can be again."""
        return digest != self.came_as and self.knows(digest)


class _Way(msgspec.Struct, frozen=True, kw_only=True):
    """How a layer gets to the sink: it is there; or it is what `open` gives; else it is packed, to become `again`."""

    there: Descriptor | None = None
    known: Descriptor | None = None
    open: Callable[[int], Iterator[bytes]] | None = None
    origin: str = ""
    again: Descriptor | None = None

    @property
    def is_packed(self) -> bool:
        """Whether it is packed, if all goes well."""
        return self.there is None and self.known is None


class Outgoing:
    """One image on its way to one sink."""

    def __init__(self, images: Images, image: Image, options: Options, ways: Ways, mover: Mover) -> None:
        self._images = images
        self._image = image
        self._options = options
        self._ways = ways
        self._mover = mover
        self._own = self._own_manifest()
        layers = {layer.diff_id: layer for layer in self._layers_of(self._own)}
        self._layers = tuple(layers.values())  # each once
        self._plan: list[_Way] | None = None
        self.why = ""

    def plan(self) -> str:
        """Find out how each layer gets there; return why the image can't keep its digest, "" if it can."""
        for layer in self._layers:
            self._mover.say("Preparing", layer.title)
        keeping = self._keeping()
        self._plan = keeping if keeping is not None else self._mover.each(self._other_way, self._layers)
        return self.why

    def send(self, origin: str | None = None) -> Sent:
        """Send it and give it the sink's name. `origin` is the registry/repository that has its blobs then."""
        if self._plan is None:
            self.plan()
        assert self._plan is not None
        sent = self._mover.each(self._perform, tuple(zip(self._layers, self._plan, strict=True)))
        blobs = {layer.diff_id: blob for layer, blob in zip(self._layers, sent, strict=True)}
        for layer, way in zip(self._layers, self._plan, strict=True):
            blob = blobs[layer.diff_id]
            if origin is not None and (way.is_packed or layer.knows(blob.digest)):
                self._images.note_blob(layer.diff_id, blob, origin)
        document = self._document([blobs[diff_id] for diff_id in self._image.diff_ids])
        self._send_config()
        self._mover.sink.finish(document)
        before = self._image.manifest_digest
        return Sent(document) if before in (None, document.digest) else Sent(document, before, self.why)

    # ------------------------------------------------------------------------------------------------ ways

    def _own_manifest(self) -> Document | None:
        if self._image.manifest_digest is None:
            return None
        document = Document.of(self._images.document(self._image.manifest_digest))
        view = document.view()
        # An archive may have come with a manifest of another image, or an artifact's.
        if not isinstance(view, Manifest) or len(view.layers) != len(self._image.diff_ids):
            return None
        return document

    def _layers_of(self, own: Document | None) -> Iterator[_Layer]:
        view = own.view() if own is not None else None
        names = tuple(dict.fromkeys(Reference.parse(text).name for text in self._image.repo_digests))
        for number, diff_id in enumerate(self._image.diff_ids):
            record = self._images.layers.find(diff_id)
            yield _Layer(
                diff_id=diff_id,
                wanted=view.layers[number] if isinstance(view, Manifest) else None,
                facts=self._images.blobs_of(diff_id),
                came_as=record.blob if record is not None else None,
                names=names,
            )

    def _keeping(self) -> list[_Way] | None:
        """Find the ways by which the image keeps its manifest; None if there are none, and `why` says why not."""
        if self._own is None:
            return None
        kind = self._options.compression.kind
        if self._options.format not in (None, self._own.format):
            self.why = f"its manifest is in the format {self._own.format}"
        elif self._options.annotations:
            self.why = "annotations are in the manifest"
        elif self._options.force and any(kind_of_layer(layer.wanted) != kind for layer in self._layers if layer.wanted):
            self.why = f"all layers are to be compressed by {kind}"
        if self.why:
            return None
        found = self._mover.each(self._kept_way, self._layers)
        ways = [way for way in found if way is not None]
        return ways if len(ways) == len(found) else None

    def _kept_way(self, layer: _Layer) -> _Way | None:
        assert layer.wanted is not None
        way = self._without_network(layer, layer.wanted)
        if way is not None:
            return way
        why = "it was not kept"
        if self._options.lengths:
            if layer.was_packed_here(layer.wanted.digest):
                return _Way(again=layer.wanted)
            why = "it is not known where it came from"
            for origin in layer.origins(layer.wanted.digest):
                try:
                    source = self._ways.origin(origin)
                    if source.has(layer.wanted):
                        return _Way(known=layer.wanted, open=_opener(source.blob, layer.wanted), origin=origin)
                    why = f"{origin} has it no more"
                except SampanError as e:
                    why = f"{origin}: {e.message}"
        self.why = f"layer {layer.title} can't be had as it was compressed: {why}"
        return None

    def _other_way(self, layer: _Layer) -> _Way:
        candidates = [*((layer.wanted,) if layer.wanted else ()), *map(_descriptor, layer.facts)]
        for blob in {blob.digest: blob for blob in candidates}.values():
            if self._is_acceptable(blob) and (way := self._without_network(layer, blob)) is not None:
                return way
        return _Way()

    def _is_acceptable(self, blob: Descriptor) -> bool:
        kind = kind_of_layer(blob)
        if self._options.force:
            return kind == self._options.compression.kind
        return not (kind == "zstd" and self._format is Format.DOCKER)

    def _without_network(self, layer: _Layer, blob: Descriptor) -> _Way | None:
        """The sink has it or takes it by itself, or it was kept."""
        wanted = Blob(blob.digest, blob.size, _nothing, layer.origins(blob.digest), layer.title)
        if self._mover.found(wanted):
            return _Way(there=blob)
        kept = self._ways.kept(blob.digest)
        return _Way(known=blob, open=kept) if kept is not None else None

    # ------------------------------------------------------------------------------------------------ sending

    def _perform(self, pair: tuple[_Layer, _Way]) -> Descriptor:
        layer, way = pair
        with doing(f"can't send layer {layer.title}"):
            if way.there is not None:
                return way.there
            if way.known is not None and way.open is not None:
                try:
                    checked = Checked(way.open, way.known.digest, way.known.size)
                    self._mover.send(layer.title, checked.open, way.known.digest, way.known.size)
                    return way.known
                except SampanError as e:
                    # An archive has the beginning of it already.
                    if not way.origin or isinstance(self._mover.sink, ArchiveImage):
                        raise
                    self.why = f"layer {layer.title} can't be fetched from {way.origin} again: {e.message}"
            return self._pack(layer, way.again)

    def _pack(self, layer: _Layer, again: Descriptor | None) -> Descriptor:
        """Compress it anew, as `again` is, or as the options say."""
        compression = self._options.compression
        if again is not None and compression.kind != kind_of_layer(again):
            compression = Compression(kind_of_layer(again))
        media_type = layer_type(self._format, compression.kind)
        sink = self._mover.sink
        if compression.kind == "none" and isinstance(sink, ArchiveImage):
            sent = self._plain(layer, sink)
        else:
            sent = self._packed(layer, compression)
        if again is not None:
            if sent.digest == again.digest:
                return again
            self.why = f"layer {layer.title} compresses to other bytes now"
        return Descriptor(media_type=media_type, digest=sent.digest, size=sent.size)

    def _plain(self, layer: _Layer, sink: ArchiveImage) -> Descriptor:
        """Have the worker write the tar straight into the archive: through this process it takes a third more time."""
        directory, size = self._ways.layer(layer.diff_id), self._size(layer)

        def write(fd: int) -> None:
            packed = self._ways.pack(directory, fd, compression=Compression("none"))
            if packed.size != size:
                raise Failed(f"it has {packed.size} bytes and should have {size}")

        sent = sink.put_blob_by(write, layer.diff_id, size)
        self._mover.say("Copied", layer.title)
        return sent

    def _packed(self, layer: _Layer, compression: Compression) -> Descriptor:
        """Send what a worker packs. Where the sink asks for bytes again, it is done again: they are the same ones."""
        directory = self._ways.layer(layer.diff_id)
        known = (layer.diff_id, self._size(layer)) if compression.kind == "none" else (None, None)
        with ExitStack() as cleanup:

            def open(offset: int) -> Iterator[bytes]:
                cleanup.close()
                packing = cleanup.enter_context(packed(self._ways.pack, directory, compression))
                return after(iter(packing), offset)

            return self._mover.send(layer.title, open, *known)

    def _size(self, layer: _Layer) -> int:
        record = self._images.layers.find(layer.diff_id)
        if record is None:
            raise NotFound("it is missing or damaged", "pull or load its image again")
        return record.tar_bytes

    def _document(self, blobs: list[Descriptor]) -> Document:
        own, annotations = self._own, dict(self._options.annotations or {})
        if own is not None and not annotations and own.format is self._format and _is_of(own, blobs):
            return own
        if own is not None and self._format is Format.OCI:
            annotations = {**(own.view().annotations or {}), **annotations}
        return image_manifest(self._image.raw_config, blobs, self._format, annotations)

    @property
    def _format(self) -> Format:
        return self._options.format or (self._own.format if self._own is not None else Format.OCI)

    def _send_config(self) -> None:
        raw, sink = self._image.raw_config, self._mover.sink
        if sink.find(Descriptor(media_type="", digest=self._image.id, size=len(raw))) is None:
            with doing("can't send the configuration"):
                sink.put_blob(lambda at: iter((raw[at:],)), self._image.id, len(raw))


def check_host(image: Image) -> None:
    """Refuse to send the built-in image of this machine's own root, which has no layers, and those that stand on it."""
    if image.host:
        name = image.repo_tags[0]
        raise InvalidInput(f"can't send {name}: it is this machine's own root", "commit a container of it")
    if image.on_host:
        name = image.repo_tags[0] if image.repo_tags else image.id
        raise InvalidInput(
            f"can't send {name}: it was built FROM host, and is of no use without this machine's own root",
            "build it with --squash: then it has all files; or COPY --from what is wanted",
        )


def _descriptor(fact: BlobFact) -> Descriptor:
    return Descriptor(media_type=fact.media_type, digest=fact.digest, size=fact.size)


def _opener(read: Callable[[Descriptor, int], Iterator[bytes]], blob: Descriptor) -> Callable[[int], Iterator[bytes]]:
    return lambda at: read(blob, at)


def _is_of(document: Document, layers: list[Descriptor]) -> bool:
    return [layer.digest for layer in image_of(document).layers] == [layer.digest for layer in layers]


def _nothing(_: int) -> Iterator[bytes]:
    return iter(())
