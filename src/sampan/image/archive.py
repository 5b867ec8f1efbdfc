"""Images from tar archives: docker-archive and oci-archive as docker save, skopeo and podman save write them, OCI
layouts and skopeo's `dir:` in a tar; and root filesystems.

The archive is read once, as it comes. Layers are unpacked on the way, before it is known which image wants them, and
documents are kept in memory; then the manifest, which may be the last member, says what belongs together. Nothing
remains of an archive that fails.
"""

from __future__ import annotations

import posixpath
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import msgspec

from sampan.errors import InvalidInput, NotFound, SampanError, doing
from sampan.ids import check_digest, is_digest, short
from sampan.image import platforms, tar
from sampan.image.blobs import digest_of
from sampan.image.compression import decompressed_within, kind_of
from sampan.image.feed import Feeder
from sampan.spec.decoding import decode_document
from sampan.spec.distribution import (
    CONFIGS,
    INDEXES,
    MANIFESTS,
    Descriptor,
    Index,
    Manifest,
    Platform,
    Progress,
    check_layer_type,
    choose,
    decode_manifest,
)
from sampan.spec.image import (
    ExecutionConfig,
    HistoryEntry,
    Image,
    ImageConfig,
    LayerLimits,
    RootFS,
    SavedImage,
    decode_config,
)
from sampan.spec.reference import Reference
from sampan.units import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from sampan.image.compression import Readable
    from sampan.image.layers import Pins, Unpacked, Unpacker
    from sampan.image.store import Images

    OnProgress = Callable[[Progress], None]

_LARGEST_DOCUMENT = 8 << 20
_ALL_DOCUMENTS = 64 << 20
_MOST_MEMBERS = 100_000
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_BLOBS = "blobs/"
_LAYER_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tar.xz", ".tar.bz2")
_REPORT_EVERY = 1 << 20


def load(
    images: Images,
    stream: Readable,
    *,
    unpack: Unpacker,
    progress: OnProgress,
    platform: Platform | None = None,
    limits: LayerLimits = LayerLimits(),  # noqa: B008  # frozen
) -> list[str]:
    """Read images from an archive, compressed or not. Return a line for each: what was loaded, in Docker's words.

    `platform` is the one to take of an index, and what images must be for; None: this machine's, and any.
    """
    with images.working() as pins, _Contents(images, pins, unpack, progress) as contents:
        with doing("can't load images"):
            contents.read(decompressed_within(stream, limits))
            found = _docker_images(contents) or _oci_images(contents, platform)
            for one in found:
                _check_platform(one, platform)
            if not found:
                raise InvalidInput(
                    "the archive has neither a manifest.json nor an index.json",
                    "if it is a root filesystem, use `sampan import`",
                )
            for one in found:
                for reference in one.tags:
                    images.check_name(reference)
        lines = []
        for one in found:
            image = images.add(one.config, manifest=one.manifest, tags=one.tags)
            lines += [f"Loaded image: {reference.familiar()}" for reference in one.tags]
            lines += [] if one.tags else [f"Loaded image ID: {image.id}"]
    return lines


def import_tarball(
    images: Images,
    stream: Readable,
    *,
    ref: Reference | None,
    unpack: Unpacker,
    execution: ExecutionConfig | None = None,
    message: str = "",
    platform: Platform | None = None,
    created_ns: int | None = None,
) -> Image:
    """Make an image of one layer from a root filesystem's tar, compressed or not."""
    import time

    if ref is not None:
        images.check_name(ref)
    platform = platform or platforms.own()
    created = format_timestamp(time.time_ns() if created_ns is None else created_ns)
    with images.working() as pins, images.layers.scratch() as target:
        with doing("can't import"), Feeder(unpack) as feeder:
            result = feeder.feed(_pieces(stream), target).result()
        images.layers.adopt(target, result, pins)
        config = ImageConfig(
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            created=created,
            config=execution or ExecutionConfig(),
            rootfs=RootFS(diff_ids=(result.diff_id,)),
            history=(HistoryEntry(created=created, comment=message or "Imported from -"),),
        )
        return images.add(msgspec.json.encode(config), tags=(ref,) if ref is not None else ())


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """An image of an archive, the layers of which are in the store."""

    config: bytes
    manifest: bytes | None = None
    tags: tuple[Reference, ...] = ()


class _Contents:
    """What an archive has: documents by name, and layers that are being unpacked."""

    def __init__(self, images: Images, pins: Pins, unpack: Unpacker, progress: OnProgress) -> None:
        self._layers = images.layers
        self._pins = pins
        self._progress = progress
        self._feeder = Feeder(unpack)
        self._cleanup = ExitStack()
        self._documents: dict[str, bytes] = {}
        self._document_bytes = 0
        self._unpacking: dict[str, tuple[str, Future[Unpacked]]] = {}  # by name: the target, and what comes of it
        self._diff_ids: dict[str, str] = {}  # of layers that are in the store, by name
        self._links: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._feeder:
            pass
        self._cleanup.close()

    def read(self, pieces: Iterator[bytes]) -> None:
        """Read the archive to its end."""
        reader = tar.Reader(pieces)
        count = 0
        while (entry := reader.next_entry()) is not None:
            count += 1
            if count > _MOST_MEMBERS:
                raise InvalidInput(
                    "it has too many members to be an archive of images",
                    "if it is a root filesystem, use `sampan import`",
                )
            name = _normal(entry.name.decode(errors="backslashreplace"))
            target = entry.link.decode(errors="backslashreplace")
            match entry.kind:
                case tar.LINK:
                    self._links[name] = _normal(target)
                case tar.SYMLINK:
                    self._links[name] = _normal(posixpath.join(posixpath.dirname(name), target))
                case tar.REGULAR:
                    self._member(name, entry.size, reader.body())
                case _:  # directories; nothing else is of use
                    continue
        if not reader.ended:
            raise InvalidInput("the archive is cut short", "it was not written or sent to its end")
        reader.drain()

    def document(self, name: str) -> bytes | None:
        """A small file of the archive."""
        return self._documents.get(self._follow(name))

    def blob(self, wanted: Descriptor) -> bytes:
        """A document of an OCI layout or a `dir:`, verified."""
        name = self.blob_name(wanted.digest)
        data = self.document(name)
        if data is None and wanted.media_type in MANIFESTS | INDEXES:
            data = self.document(f"{name}.manifest.json")  # as `dir:` calls them
        if data is None:
            raise InvalidInput(f"the archive has no blob {wanted.digest}")
        if digest_of(data) != wanted.digest:
            raise InvalidInput(f"blob {wanted.digest} is damaged: it is {digest_of(data)}")
        return data

    def blob_name(self, digest: str) -> str:
        """What a blob is called: blobs/sha256/DIGITS, in a `dir:` only DIGITS."""
        algorithm, _, digits = check_digest(digest).partition(":")
        return f"{_BLOBS}{algorithm}/{digits}" if "index.json" in self._documents else digits

    def layer(self, name: str, diff_id: str) -> None:
        """See to it that the layer of this name is in the store, and is the one that the configuration means."""
        name = self._follow(name)
        if name in self._unpacking:
            target, future = self._unpacking.pop(name)
            result = future.result()
            self._layers.adopt(target, result, self._pins)
            self._diff_ids[name] = result.diff_id
        if name not in self._diff_ids:
            raise InvalidInput(f"the archive has no layer {name}")
        if self._diff_ids[name] != diff_id:
            raise InvalidInput(f"layer {name} does not match: its diff id is {self._diff_ids[name]}, not {diff_id}")

    def _follow(self, name: str) -> str:
        name = _normal(name)
        for _ in range(len(self._links) + 1):
            if name not in self._links:
                return name
            name = self._links[name]
        raise InvalidInput(f"{name} is a link to itself")

    def _member(self, name: str, size: int, body: Iterator[memoryview]) -> None:
        start = b""
        while len(start) < tar.BLOCK and (piece := next(body, None)) is not None:
            start += piece
        if not _may_be_layer(name, start):
            self._keep(name, size, start, body)
            return
        digits = posixpath.basename(name).partition(".")[0]
        claimed = f"sha256:{digits}"
        if is_digest(claimed) and self._pins.add(claimed) is not None:
            # Its name says which one it is, by which it will be asked for: what is here already serves.
            self._diff_ids[name] = claimed
            return
        target = self._cleanup.enter_context(self._layers.scratch())
        id = short(claimed) if is_digest(claimed) else name
        pieces = _reported(_chain(start, body), lambda count: self._report(id, count, size))
        digest = claimed if _is_blob(name) and is_digest(claimed) else None
        self._unpacking[name] = (target, self._feeder.feed(pieces, target, digest=digest))

    def _report(self, id: str, count: int, size: int) -> None:
        self._progress(Progress(status="Loading layer", id=id, current=count, total=size))

    def _keep(self, name: str, size: int, start: bytes, body: Iterator[memoryview]) -> None:
        if size > _LARGEST_DOCUMENT or start.lstrip()[:1] not in {b"{", b"["}:
            return
        self._document_bytes += size
        if self._document_bytes > _ALL_DOCUMENTS:
            raise InvalidInput(f"{name}: the archive's documents are too large")
        self._documents[name] = start + b"".join(body)


def _docker_images(contents: _Contents) -> list[_Found]:
    document = contents.document("manifest.json")
    if document is None or not document.lstrip().startswith(b"["):
        return []
    items = decode_document(document, tuple[SavedImage, ...], "manifest.json")
    with doing("manifest.json"):
        found = []
        for item in items:
            config = contents.document(item.config)
            if config is None:
                raise InvalidInput(f"the archive has no {item.config}")
            _take_layers(contents, config, item.layers or ())
            found.append(_Found(config=config, tags=tuple(Reference.parse(name) for name in item.repo_tags or ())))
    return found


def _oci_images(contents: _Contents, platform: Platform | None) -> list[_Found]:
    document = contents.document("index.json")
    if document is None:
        return _directory_image(contents, platform)
    index = decode_manifest(document)
    if not isinstance(index, Index):
        raise InvalidInput("index.json is no index")
    by_names: dict[tuple[Reference, ...], list[Descriptor]] = {}
    for descriptor in index.manifests:
        by_names.setdefault(_names(descriptor), []).append(descriptor)
    found = [_oci_image(contents, names, descriptors, platform) for names, descriptors in by_names.items()]
    if not found:
        raise InvalidInput("index.json names no image")
    return found


def _directory_image(contents: _Contents, platform: Platform | None) -> list[_Found]:
    """The image of skopeo's `dir:`, whose manifest.json is the manifest itself."""
    raw = contents.document("manifest.json")
    if raw is None:
        return []
    with doing("manifest.json"):
        view = decode_manifest(raw)
    if isinstance(view, Index):
        return [_oci_image(contents, (), view.manifests, platform)]
    return [_image(contents, (), raw, view)]


def _oci_image(
    contents: _Contents,
    names: tuple[Reference, ...],
    descriptors: Sequence[Descriptor],
    platform: Platform | None,
) -> _Found:
    wanted = platform or platforms.own()
    while True:
        descriptor = descriptors[0] if len(descriptors) == 1 else choose(descriptors, wanted)
        if descriptor is None:
            raise InvalidInput(f"no matching manifest for {wanted} in the manifest list entries")
        raw = contents.blob(descriptor)
        manifest = decode_manifest(raw, descriptor.media_type)
        if isinstance(manifest, Manifest):
            return _image(contents, names, raw, manifest)
        # One that names itself is impossible: its digest would be its own input.
        descriptors = manifest.manifests


def _image(contents: _Contents, names: tuple[Reference, ...], raw: bytes, manifest: Manifest) -> _Found:
    if manifest.config.media_type not in CONFIGS:
        raise InvalidInput(f"{digest_of(raw)} is no image: its configuration is {manifest.config.media_type}")
    config = contents.blob(manifest.config)
    for layer in manifest.layers:
        check_layer_type(layer)
    _take_layers(contents, config, [contents.blob_name(layer.digest) for layer in manifest.layers])
    return _Found(config=config, manifest=raw, tags=names)


def _check_platform(found: _Found, wanted: Platform | None) -> None:
    offered = decode_config(found.config).platform
    if wanted is not None and choose([_of(offered)], wanted) is None:
        name = found.tags[0].familiar() if found.tags else digest_of(found.config)
        raise NotFound(f"image {name} is for {offered} and not for the specified platform: {wanted}")


def _of(platform: Platform) -> Descriptor:
    return Descriptor(media_type="", digest="", size=0, platform=platform)


def _take_layers(contents: _Contents, config: bytes, names: Sequence[str]) -> None:
    diff_ids = decode_config(config).diff_ids
    if len(diff_ids) != len(names):
        raise InvalidInput(f"the manifest has {len(names)} layers and the configuration {len(diff_ids)}")
    for name, diff_id in zip(names, diff_ids, strict=True):
        contents.layer(name, diff_id)


def _names(descriptor: Descriptor) -> tuple[Reference, ...]:
    """The name that an index gives an image; only a tag, as umoci writes it, is none."""
    annotations = descriptor.annotations or {}
    name = next((annotations[key] for key in _NAME_ANNOTATIONS if annotations.get(key)), "")
    try:
        return (Reference.parse(name),) if ":" in name or "/" in name else ()
    except SampanError:
        return ()


def _may_be_layer(name: str, start: bytes) -> bool:
    """Tell by its name, and among the blobs of a layout by its start: other archives are full of compressed files."""
    if _is_blob(name):
        return kind_of(start) != "none" or start[257:262] == b"ustar" or (bool(start) and not any(start))
    return name.endswith(_LAYER_NAMES)


def _is_blob(name: str) -> bool:
    return name.startswith(_BLOBS) or is_digest(f"sha256:{name}")


def _normal(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")


def _chain(start: bytes, body: Iterator[memoryview]) -> Iterator[bytes | memoryview]:
    yield start
    yield from body


def _reported(pieces: Iterator[bytes | memoryview], report: Callable[[int], None]) -> Iterator[bytes | memoryview]:
    count = reported = 0
    for piece in pieces:
        yield piece
        count += len(piece)
        if count - reported >= _REPORT_EVERY:
            reported = count
            report(count)
    report(count)


def _pieces(stream: Readable) -> Iterator[bytes]:
    while piece := stream.read(1 << 18):
        yield piece
