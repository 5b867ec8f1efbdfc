"""Unpack one layer: read, verify, decompress, write. The story of a worker process.

Three things happen at once, each in a thread, since all of them leave the interpreter's lock: reading, hashing and
decompressing what comes; hashing the tar; writing files. Nothing is kept of a layer that fails.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import msgspec

from sampan.errors import InvalidInput, SampanError, doing, from_os_error
from sampan.image.compression import Peeked, check_ratio, decompressed
from sampan.image.extract import Extractor, Facts
from sampan.image.inode import show, write_all
from sampan.image.recipe import Recorder
from sampan.image.tar import Reader
from sampan.kernel.trees import remove_tree
from sampan.spec.decoding import decode_json
from sampan.spec.image import LayerLimits, LayerRecord, LayerResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORD = "layer.json"
CONTENT = "diff"
BLOB = "blob"

_AHEAD = 32  # pieces that a thread may be ahead of the next one

_LAYERS_FAULT = frozenset(
    {
        errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR, errno.EINVAL, errno.E2BIG, errno.ERANGE,
        errno.ENOENT, errno.EEXIST, errno.EFBIG,
    }
)  # fmt: skip


def unpack_layer(
    fd: int,
    target: str,
    *,
    digest: str | None = None,
    diff_id: str | None = None,
    keep_blob: bool = False,
    limits: LayerLimits = LayerLimits(),  # noqa: B008  # frozen
    size: int | None = None,
    more: Callable[[int], int] | None = None,
) -> LayerResult:
    """Read a layer from `fd` to its end and unpack it into the new directory `target`: diff/, layer.json, recipe.

    `digest` is of the bytes as read, `diff_id` of the tar in them; None is not checked. With neither, the archive must
    have its end mark. With `keep_blob` the bytes as read are kept in it too, unless they are the tar: for that
    there is the recipe. What fails leaves no `target`. `fd` stays open.

    Where `fd` ends before `size` bytes, and all that came is unpacked, `more(count)` is called for another descriptor
    that goes on after the `count` bytes so far; it may take its time, and ends the work by raising.
    """
    with doing("can't unpack layer"):
        os.mkdir(target, 0o711)
        try:
            os.mkdir(f"{target}/{CONTENT}")
            with (
                _Source(fd, f"{target}/{BLOB}" if keep_blob else None) as source,
                _Tar(source, limits, size or 0, more) as content,
                Recorder(target) as recipe,
            ):
                reader = Reader(content.pieces(), recipe.text)
                facts = _write(reader, f"{target}/{CONTENT}", recipe, limits)
                if digest is None and diff_id is None and not reader.ended:
                    raise InvalidInput("the tar archive is cut short", "it was not written or sent to its end")
            result = LayerResult(
                digest=source.digest(),
                diff_id=content.digest(),
                compressed_bytes=source.count,
                tar_bytes=content.count,
                content_bytes=facts.content_bytes,
            )
            _compare("digest", result.digest, digest)
            _compare("diff id", result.diff_id, diff_id)
            if keep_blob and result.digest == result.diff_id:
                os.unlink(f"{target}/{BLOB}")
            write_record(target, result, facts)
        except BaseException:
            remove_tree(target)
            raise
    return result


def read_record(layer: str) -> LayerRecord:
    """Read layer.json of the unpacked layer at `layer`."""
    with open(f"{layer}/{RECORD}", "rb") as file:
        return decode_json(file.read(), LayerRecord)


def _write(reader: Reader, target: str, recipe: Recorder, limits: LayerLimits) -> Facts:
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    extractor = Extractor(root, recipe)
    entries = 0
    try:
        _disinherit(root)
        while (entry := reader.next_entry()) is not None:
            entries += 1
            if entries > limits.max_layer_entries:
                raise InvalidInput(
                    f"it has more than {limits.max_layer_entries} files", limits.hint("max-layer-entries")
                )
            try:
                if entry.size > limits.max_layer_bytes:
                    raise InvalidInput(f"{show(entry.name)} claims {entry.size} bytes", limits.hint("max-layer-bytes"))
                extractor.write(entry, reader)
            except OSError as e:
                raise _fault(e, entry.name) from e
        reader.drain()
        recipe.finish()
        try:
            return extractor.finish()
        except OSError as e:
            raise _fault(e, e.filename if isinstance(e.filename, bytes) else b"/") from e
    finally:
        extractor.close()
        os.close(root)


def _disinherit(root: int) -> None:
    """Take off what a new directory gets of the one that it is in, and would pass on: group and access lists."""
    os.fchown(root, 0, 0)
    for name in ("system.posix_acl_default", "system.posix_acl_access"):
        with suppress(OSError):  # there is none, or no filesystem that has any
            os.removexattr(root, name)
    os.fchmod(root, 0o755)


def _fault(error: OSError, name: bytes) -> SampanError:
    """Tell what is wrong with the layer from what is wrong with the disk."""
    shown = show(name)[:300]
    if error.errno in _LAYERS_FAULT:
        return InvalidInput(f"{shown}: {(error.strerror or '').lower()}")
    return from_os_error(error).within(shown)


def _compare(what: str, found: str, wanted: str | None) -> None:
    if wanted is None:
        return
    if wanted.startswith("sha512:"):
        raise InvalidInput(f"{what} {wanted}: only sha256 is understood")
    if found != wanted:
        raise InvalidInput(
            f"{what} does not match: it is {found} and should be {wanted}",
            "the data was damaged on its way, or the registry or archive is wrong",
        )


def write_record(target: str, result: LayerResult, facts: Facts) -> None:
    """Write layer.json of the layer in the directory `target`, with which it is whole."""
    record = LayerRecord(
        diff_id=result.diff_id,
        tar_bytes=result.tar_bytes,
        content_bytes=result.content_bytes,
        implied=tuple(facts.implied),
        whiteouts=tuple(facts.whiteouts),
        opaque_root=facts.opaque_root,
        blob=result.digest,
    )
    with open(f"{target}/{RECORD}", "wb") as file:
        file.write(msgspec.json.encode(record))


class _Source:
    """The bytes as they come, counted and hashed, and with `kept` written to a file of this name.

    `more`, asked at their end, may give a descriptor with others.
    """

    def __init__(self, fd: int, kept: str | None) -> None:
        self._fd = fd
        self._kept = open(kept, "xb", buffering=0) if kept is not None else None  # noqa: SIM115
        self._hash = hashlib.sha256()
        self.count = 0
        self.more: Callable[[], int | None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            self._kept.close()

    def read(self, size: int, /) -> bytes:
        while not (data := os.read(self._fd, size)):
            fd = self.more()
            if fd is None:
                break
            self._fd = fd
        if self._kept is not None:
            write_all(self._kept.fileno(), data)
        self._hash.update(data)
        self.count += len(data)
        return data

    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


class _Dry:
    """Stands in the queue where the input ended too early."""


class _Tar:
    """The uncompressed archive: made by one thread, hashed by another, read through `pieces`."""

    def __init__(self, source: _Source, limits: LayerLimits, size: int, more: Callable[[int], int] | None) -> None:
        self._source = source
        self._limits = limits
        self._size = size
        self._more = more
        self._hash = hashlib.sha256()
        self._to_hash: queue.Queue[bytes] = queue.Queue(_AHEAD)
        self._to_write: queue.Queue[bytes | BaseException | _Dry] = queue.Queue(_AHEAD)
        self._descriptors: queue.Queue[int | None] = queue.Queue()
        self._abandoned = False
        self._plain = False
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._decompress, self._digest)]
        self.count = 0
        if more is not None:
            source.more = self._next_descriptor

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._abandoned = True
        self._descriptors.put(None)
        while self._threads[0].is_alive():  # it may wait for room in the queue
            while not self._to_write.empty():
                self._to_write.get()
            self._threads[0].join(0.02)
        self._threads[1].join()

    def pieces(self) -> Iterator[bytes]:
        while piece := self._to_write.get():
            if isinstance(piece, _Dry):  # all before it is written
                assert self._more is not None
                self._descriptors.put(self._more(self._source.count))
            elif isinstance(piece, BaseException):
                raise piece
            else:
                yield piece

    def digest(self) -> str:
        return self._source.digest() if self._plain else "sha256:" + self._hash.hexdigest()

    def _next_descriptor(self) -> int | None:
        if self._abandoned or self._source.count >= self._size:
            return None
        self._to_write.put(_Dry())
        return self._descriptors.get()

    def _decompress(self) -> None:
        end: bytes | BaseException = b""
        try:
            source = Peeked(self._source)
            self._plain = source.kind() == "none"  # then both digests are one: hash once
            for piece in decompressed(source):
                if self._abandoned:
                    break
                self._count(len(piece))
                if not self._plain:
                    self._to_hash.put(piece)
                self._to_write.put(piece)
        except BaseException as e:
            end = e
        self._to_hash.put(b"")
        self._to_write.put(end)

    def _count(self, size: int) -> None:
        self.count += size
        limits = self._limits
        if self.count > limits.max_layer_bytes:
            raise InvalidInput(f"its tar has more than {limits.max_layer_bytes} bytes", limits.hint("max-layer-bytes"))
        check_ratio(self._source.count, self.count, limits)

    def _digest(self) -> None:
        while piece := self._to_hash.get():
            self._hash.update(piece)
