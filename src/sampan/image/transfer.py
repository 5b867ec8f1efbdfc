"""Copies of images from place to place, never unpacked: from a source to a sink, blob by blob, each verified.

A source gives documents and blobs, a sink takes them. What is at the sink already is not sent, a document comes after
what it names, and the name comes last: whatever breaks off, no name leads to half an image.
"""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from sampan.errors import Failed, InvalidInput, NotFound, doing
from sampan.ids import check_digest, short
from sampan.image import manifest as manifests, platforms
from sampan.image.compression import Compression, compressed, decompressed_within
from sampan.image.manifest import Document, Format
from sampan.spec.distribution import CONFIGS, Descriptor, Index, Manifest, Platform, Progress, choose
from sampan.spec.image import LayerLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    OnProgress = Callable[[Progress], None]
    Opener = Callable[[int], Iterator[bytes]]
    """Gives the bytes of a blob from an offset on; called anew where sending them broke off."""

T = TypeVar("T")
R = TypeVar("R")

LARGEST_DOCUMENT = 8 << 20
_DEEPEST_INDEX = 4
_MOST_MANIFESTS = 1000
_REPORT_EVERY_S = 0.1


class Source(Protocol):
    """A place that an image is read from. Several threads may use it."""

    repository: str | None
    """`registry/repository` where it is one: a sink of the same registry can mount its blobs."""

    def document(self, digest: str | None = None) -> Document:
        """The manifest or index of this digest, verified; None: what the place's name means."""

    def blob(self, blob: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a blob, from an offset on. They are not verified."""


class Found(msgspec.Struct, frozen=True):
    """A sink has a blob: it had it before, or took it from another repository of its own."""

    mounted_from: str | None = None


class Sink(Protocol):
    """A place that an image is written to, under a name. Up to `at_once` threads may use it."""

    at_once: int
    holds_indexes: bool

    def find(self, blob: Descriptor, origins: Sequence[str] = ()) -> Found | None:
        """Whether a blob is there, or can be had from these repositories without being sent."""

    def put_blob(self, open: Opener, digest: str | None, size: int | None) -> Descriptor:
        """Take a blob; return what it is, without a media type.

        Where the digest is given, the caller sees to it that the bytes are that: `open` fails if they are not.
        """

    def put_manifest(self, document: Document) -> None:
        """Take a manifest that an index names. What it names is here."""

    def finish(self, document: Document) -> None:
        """Take the manifest or index that the name means, and give it the name."""


class Words(msgspec.Struct, frozen=True):
    """What progress calls it."""

    moving: str = "Copying"
    moved: str = "Copied"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What of an image is copied, and what it becomes on the way."""

    platform: Platform | None = None  # this one of an index; else
    all: bool = True  # all of an index, or this machine's
    format: Format | None = None  # None: as it is
    compression: Compression | None = None  # of layers that are plain; None: they stay so
    force: bool = False  # of all layers
    preserve: bool = False  # refuse what would change a digest
    limits: LayerLimits = LayerLimits()  # of layers that are compressed anew


class Copied(msgspec.Struct, frozen=True):
    """What came of a copy: the document that the name means, the digest it had where it came from, and why it has
    another now.
    """

    document: Document
    before: str
    why: str = ""


def copy(source: Source, sink: Sink, choice: Choice, progress: OnProgress, words: Words = Words()) -> Copied:  # noqa: B008  # frozen
    """Copy an image with all that belongs to it."""
    return _Copy(source, sink, choice, Mover(sink, progress, words)).run()


def chosen(source: Source, document: Document, platform: Platform | None) -> Document:
    """Go down from an index to the manifest of one image: of a platform, or None: this machine's."""
    wanted = platform or platforms.own()
    for _ in range(_DEEPEST_INDEX):
        view = document.view()
        if isinstance(view, Manifest):
            return document
        entry = choose(view.manifests, wanted)
        if entry is None:
            offered = ", ".join(sorted({str(m.platform) for m in view.manifests if m.platform is not None}))
            raise NotFound(
                f"no matching manifest for {wanted} in the manifest list entries", f"there is: {offered or 'nothing'}"
            )
        document = _listed(source, entry)
    raise InvalidInput(f"can't use {document.digest}: indexes in indexes, {_DEEPEST_INDEX} deep")


def _listed(source: Source, entry: Descriptor) -> Document:
    """Read a manifest that an index names. Raises InvalidInput where it is not as long as the index says."""
    document = source.document(check_digest(entry.digest))
    if len(document.raw) != entry.size:
        raise InvalidInput(
            f"can't use manifest {entry.digest}: it has {len(document.raw)} bytes and should have {entry.size}"
        )
    return document


class _Copy:
    def __init__(self, source: Source, sink: Sink, choice: Choice, mover: Mover) -> None:
        self._source = source
        self._sink = sink
        self._choice = choice
        self._mover = mover
        self._count = 0
        self._why = ""

    def run(self) -> Copied:
        top = self._source.document()
        if self._choice.platform is not None or not (self._choice.all and self._sink.holds_indexes):
            top = chosen(self._source, top, self._choice.platform)
        if self._choice.preserve and self._choice.format not in (None, top.format):
            raise InvalidInput(f"can't preserve digests: its format is {top.format}", "leave --format out")
        document = self._with_content(top, 0)
        if self._choice.preserve and document.digest != top.digest:
            raise InvalidInput(f"can't preserve digests: {self._why}", "leave --preserve-digests out")
        self._mover.say("Writing manifest", None)
        self._sink.finish(document)
        return Copied(document, top.digest, self._why)

    def _with_content(self, document: Document, depth: int) -> Document:
        """Copy all that a document names; return the document as it is at the sink."""
        self._count += 1
        if depth > _DEEPEST_INDEX or self._count > _MOST_MANIFESTS:
            raise InvalidInput(f"can't copy {document.digest}: too many manifests, or indexes in indexes")
        view = document.view()
        if isinstance(view, Index):
            return self._index(document, view, depth)
        return self._image(document, view)

    def _index(self, document: Document, view: Index, depth: int) -> Document:
        entries = []
        for entry in view.manifests:
            child = _listed(self._source, entry)
            if child.media_type != entry.media_type:
                raise InvalidInput(
                    f"can't copy manifest {entry.digest}: it is {child.media_type}, and its index says "
                    f"{entry.media_type[:200]!r}"
                )
            copied = self._with_content(child, depth + 1)
            self._sink.put_manifest(copied)
            entries.append(
                msgspec.structs.replace(entry, media_type=copied.media_type, digest=copied.digest, size=len(copied.raw))
            )
        if tuple(entries) == view.manifests and self._choice.format in (None, document.format):
            return document
        self._why = self._why or f"its format is {self._choice.format} now"
        return manifests.index(entries, self._choice.format or document.format, view.annotations)

    def _image(self, document: Document, view: Manifest) -> Document:
        blobs = {blob.digest: blob for blob in (view.config, *view.layers) if not blob.urls}
        is_image = view.config.media_type in CONFIGS
        layers = {layer.digest: layer for layer in view.layers} if is_image else {}
        changed = [layer for layer in layers.values() if self._is_compressed_anew(layer)]
        kept = [blob for blob in blobs.values() if blob not in changed]
        origins = (self._source.repository,) if self._source.repository else ()
        self._mover.move([Blob(check_digest(b.digest), b.size, self._opener(b), origins) for b in kept])
        format = self._choice.format or document.format
        if not is_image or (not changed and format is document.format):
            return document
        self._why = "layers were compressed" if changed else f"its format is {format} now"
        sent = dict(zip([b.digest for b in changed], self._mover.each(self._compress, changed), strict=True))
        new = [sent.get(layer.digest, layer) for layer in view.layers]
        return manifests.converted(document, format, small(self._source, view.config), new)

    def _is_compressed_anew(self, layer: Descriptor) -> bool:
        if self._choice.compression is None or layer.urls:
            return False
        kind = manifests.kind_of_layer(layer)
        return kind != self._choice.compression.kind and (kind == "none" or self._choice.force)

    def _compress(self, layer: Descriptor) -> Descriptor:
        """Take a layer's compression off and put another on, while it goes by. Again it gives the same bytes."""
        assert self._choice.compression is not None
        compression = self._choice.compression

        def open(offset: int) -> Iterator[bytes]:
            checked = Checked(self._opener(layer), check_digest(layer.digest), layer.size)
            plain = decompressed_within(_Readable(checked.open(0)), self._choice.limits)
            return after(compressed(plain, compression), offset)

        with doing(f"can't copy {short(layer.digest)}"):
            sent = self._mover.send(short(layer.digest), open, None, None)
        return Descriptor(
            media_type=manifests.layer_type(Format.OCI, compression.kind), digest=sent.digest, size=sent.size
        )

    def _opener(self, blob: Descriptor) -> Opener:
        return lambda at: self._source.blob(blob, at)


class _Readable:
    """Pieces as a stream to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""

    def read(self, size: int, /) -> bytes:
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._piece = piece
        data, self._piece = self._piece[:size], self._piece[size:]
        return data


def after(pieces: Iterator[bytes], offset: int) -> Iterator[bytes]:
    """Leave out the first `offset` bytes."""
    for piece in pieces:
        if offset < len(piece):
            yield piece[offset:]
        offset = max(0, offset - len(piece))


class Blob(msgspec.Struct, frozen=True):
    """Something to be sent: a blob as it is known, and where its bytes come from."""

    digest: str
    size: int
    open: Opener
    origins: tuple[str, ...] = ()
    id: str = ""  # what progress calls it, if not by its digest

    def descriptor(self) -> Descriptor:
        """What a sink is asked about it."""
        return Descriptor(media_type="", digest=self.digest, size=self.size)

    @property
    def title(self) -> str:
        """Its short name."""
        return self.id or short(self.digest)


class Reporter:
    """Says how it goes, from any thread, one at a time; and ends what it reports on after a failure elsewhere."""

    def __init__(self, progress: OnProgress, words: Words) -> None:
        self.words = words
        self._progress = progress
        self._lock = threading.Lock()
        self._cause: BaseException | None = None

    def say(self, status: str, id: str | None, current: int | None = None, total: int | None = None) -> None:
        """Report one event."""
        with self._lock:
            self._progress(Progress(status=status, id=id, current=current, total=total))

    def check(self) -> None:
        """Raise Failed if something has failed meanwhile."""
        if self._cause is not None:
            raise Failed("something else failed")

    def each(self, do: Callable[[T], R], items: Sequence[T], at_once: int) -> list[R]:
        """Do something with each item in some threads. After the first failure, which is raised, no other is begun."""

        def begin(item: T) -> R:
            self.check()
            try:
                return do(item)
            except BaseException as e:
                with self._lock:
                    self._cause = self._cause or e
                raise

        with ThreadPoolExecutor(at_once, thread_name_prefix="copy") as pool:
            jobs = [pool.submit(begin, item) for item in items]
        if self._cause is not None:
            raise self._cause
        return [job.result() for job in jobs]

    def reported(self, pieces: Iterator[bytes], title: str, count: int, size: int | None) -> Iterator[bytes]:
        """Give the pieces and say, every now and then, how far they are; `count` bytes came before."""
        reported = 0.0
        for piece in pieces:
            self.check()
            yield piece
            count += len(piece)
            now = time.monotonic()
            if now - reported >= _REPORT_EVERY_S:
                reported = now
                self.say(self.words.moving, title, count, size)


class Mover:
    """Sends blobs to a sink, several at once, and says how it goes. The first that fails stops the others."""

    def __init__(self, sink: Sink, progress: OnProgress, words: Words) -> None:
        self.sink = sink
        self._reporter = Reporter(progress, words)
        self.say = self._reporter.say

    def move(self, blobs: Sequence[Blob]) -> None:
        """See to it that all of them are at the sink."""
        for blob in blobs:
            self.say("Preparing", blob.title)
        self.each(self.move_one, blobs)

    def move_one(self, blob: Blob) -> None:
        """See to it that one is."""
        with doing(f"can't copy {blob.title}"):
            if self.found(blob):
                return
            checked = Checked(blob.open, blob.digest, blob.size)
            self.send(blob.title, checked.open, blob.digest, blob.size)

    def found(self, blob: Blob) -> bool:
        """Tell whether the sink has it, or can take it from elsewhere by itself."""
        found = self.sink.find(blob.descriptor(), blob.origins)
        if found is None:
            return False
        where = f"Mounted from {found.mounted_from}" if found.mounted_from else "Layer already exists"
        self.say(where, blob.title)
        return True

    def send(self, title: str, open: Opener, digest: str | None, size: int | None) -> Descriptor:
        """Send bytes, whatever the sink has."""
        sent = self.sink.put_blob(lambda at: self._reporter.reported(open(at), title, at, size), digest, size)
        self.say(self._reporter.words.moved, title)
        return sent

    def each(self, do: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Do something with each item, in as many threads as the sink allows."""
        return self._reporter.each(do, items, self.sink.at_once)


class Checked:
    """The bytes of a blob, which raise InvalidInput at their end, and before it where they are too many, if they are
    not what its digest says. They may be read again from any place that was reached.
    """

    def __init__(self, open: Opener, digest: str, size: int) -> None:
        self._open = open
        self._digest = digest
        self._size = size
        self._hash = hashlib.new(digest.partition(":")[0])
        self._count = 0  # bytes that went into the hash

    def open(self, offset: int) -> Iterator[bytes]:
        """Give the bytes from an offset on."""
        at = min(offset, self._count)  # nothing is left out of the hash
        for piece in self._open(at):
            at += len(piece)
            if at > self._size:
                raise InvalidInput(f"blob {self._digest} is longer than {self._size} bytes")
            if at > self._count:
                self._hash.update(piece[len(piece) - (at - self._count) :])
                self._count = at
            if at == self._size:
                self._check()  # before the last piece: who gets that has a blob that is right
            if at > offset:
                yield piece[max(0, len(piece) - (at - offset)) :]
        if at < self._size:
            raise Failed(f"blob {self._digest} broke off after {at} of {self._size} bytes")
        if not self._size:
            self._check()

    def _check(self) -> None:
        found = f"{self._hash.name}:{self._hash.hexdigest()}"
        if found != self._digest:
            raise InvalidInput(
                f"digest does not match: what came is {found} and should be {self._digest}",
                "the data was damaged on its way, or its source is wrong",
            )


def small(source: Source, blob: Descriptor) -> bytes:
    """Read a small blob, a configuration, verified."""
    if blob.size > LARGEST_DOCUMENT:
        raise InvalidInput(f"can't use {blob.digest}: a document of {blob.size} bytes")
    return b"".join(Checked(lambda at: source.blob(blob, at), check_digest(blob.digest), blob.size).open(0))
