"""Copies of images from place to place, never unpacked: from a source to a sink, blob by blob, each verified.

A source gives documents and blobs, a sink takes them. What is at the sink already is not sent, a document comes after
what it names, and the name comes last: whatever breaks off, no name leads to half an image.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from sampan.errors import Failed, InvalidInput, NotFound, doing
from sampan.ids import check_digest, short
from sampan.image import manifest as manifests
from sampan.image.manifest import Document, Format
from sampan.spec.distribution import CONFIGS, Descriptor, Index, Manifest, Platform, Progress, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    OnProgress = Callable[[Progress], None]
    Opener = Callable[[int], Iterator[bytes]]
    """Gives the bytes of a blob from an offset on; called anew where sending them broke off."""

T = TypeVar("T")

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
        """Take a blob; with a digest it is refused if it is another. The descriptor's media type is empty."""

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


class Copied(msgspec.Struct, frozen=True):
    """What came of a copy: the document that the name means, and the digest it had where it came from."""

    document: Document
    before: str


def copy(source: Source, sink: Sink, choice: Choice, progress: OnProgress, words: Words = Words()) -> Copied:  # noqa: B008  # frozen
    """Copy an image with all that belongs to it."""
    return _Copy(source, sink, choice, Mover(sink, progress, words)).run()


class _Copy:
    def __init__(self, source: Source, sink: Sink, choice: Choice, mover: Mover) -> None:
        self._source = source
        self._sink = sink
        self._choice = choice
        self._mover = mover
        self._count = 0

    def run(self) -> Copied:
        top = self._source.document()
        before = top.digest
        if self._choice.platform is not None or not (self._choice.all and self._sink.holds_indexes):
            top = self._chosen(top)
        document = self._with_content(top, 0)
        self._mover.say("Writing manifest", None)
        self._sink.finish(document)
        return Copied(document, before)

    def _chosen(self, document: Document) -> Document:
        """Go down to one image: of the platform that was asked for, or this machine's."""
        wanted = self._choice.platform or Platform.of_machine(os.uname().machine)
        for _ in range(_DEEPEST_INDEX):
            view = document.view()
            if isinstance(view, Manifest):
                return document
            entry = choose(view.manifests, wanted)
            if entry is None:
                offered = ", ".join(sorted({str(m.platform) for m in view.manifests if m.platform is not None}))
                raise NotFound(
                    f"no matching manifest for {wanted} in the manifest list entries",
                    f"there is: {offered or 'nothing'}",
                )
            document = self._source.document(check_digest(entry.digest))
        raise InvalidInput(f"can't use {document.digest}: indexes in indexes, {_DEEPEST_INDEX} deep")

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
            child = self._source.document(check_digest(entry.digest))
            copied = self._with_content(child, depth + 1)
            self._sink.put_manifest(copied)
            entries.append(
                msgspec.structs.replace(entry, media_type=copied.media_type, digest=copied.digest, size=len(copied.raw))
            )
        if tuple(entries) == view.manifests and self._choice.format in (None, document.format):
            return document
        return manifests.index(entries, self._choice.format or document.format, view.annotations)

    def _image(self, document: Document, view: Manifest) -> Document:
        blobs = {blob.digest: blob for blob in (view.config, *view.layers) if not blob.urls}
        origins = (self._source.repository,) if self._source.repository else ()
        self._mover.move(
            [
                Blob(check_digest(blob.digest), blob.size, lambda at, b=blob: self._source.blob(b, at), origins)  # type: ignore[misc]
                for blob in blobs.values()
            ]
        )
        if self._choice.format in (None, document.format) or view.config.media_type not in CONFIGS:
            return document
        return manifests.converted(document, self._choice.format, small(self._source, view.config), view.layers)


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


class Mover:
    """Sends blobs to a sink, several at once, and says how it goes. The first that fails stops the others."""

    def __init__(self, sink: Sink, progress: OnProgress, words: Words) -> None:
        self._sink = sink
        self._words = words
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._progress = progress

    def say(self, status: str, id: str | None, current: int | None = None, total: int | None = None) -> None:
        """Report, from any thread, one at a time."""
        with self._lock:
            self._progress(Progress(status=status, id=id, current=current, total=total))

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
        found = self._sink.find(blob.descriptor(), blob.origins)
        if found is None:
            return False
        where = f"Mounted from {found.mounted_from}" if found.mounted_from else "Layer already exists"
        self.say(where, blob.title)
        return True

    def send(self, title: str, open: Opener, digest: str | None, size: int | None) -> Descriptor:
        """Send bytes, whatever the sink has."""
        sent = self._sink.put_blob(lambda at: self._reported(open(at), title, at, size), digest, size)
        self.say(self._words.moved, title)
        return sent

    def each(self, do: Callable[[T], object], items: Iterable[T]) -> None:
        """Do something with each item, in as many threads as the sink allows. After a failure no other is begun."""
        with ThreadPoolExecutor(self._sink.at_once, thread_name_prefix="copy") as pool:
            jobs = [pool.submit(do, item) for item in items]
            try:
                for job in as_completed(jobs):
                    job.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _reported(self, pieces: Iterator[bytes], title: str, count: int, size: int | None) -> Iterator[bytes]:
        reported = 0.0
        for piece in pieces:
            if self._stop.is_set():
                raise Failed("something else failed")
            yield piece
            count += len(piece)
            now = time.monotonic()
            if now - reported >= _REPORT_EVERY_S:
                reported = now
                self.say(self._words.moving, title, count, size)


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
