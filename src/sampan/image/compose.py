"""Make a layer of files that are here: its directory, its recipe and the digest of its tar, in one pass over them.

The tar itself is never anywhere. What it would be is hashed while the files are copied, in a thread of its own: header
by header as `tarwrite` makes them, and each content as it is read. Where the filesystem can, the layer's files share
their blocks with those they are made of; holes stay holes (in the tar they are zeros). Small files without any of that
are made by a child process.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import threading
from typing import TYPE_CHECKING, Self

from sampan.errors import InvalidInput, SampanError, doing
from sampan.image import tar, tarwrite
from sampan.image.extract import WHITEOUT_PREFIX, Extractor
from sampan.image.inode import show, write_all
from sampan.image.recipe import Recorder
from sampan.image.small_files import LARGEST, MAKERS, SmallFiles
from sampan.image.unpack import CONTENT, write_record
from sampan.kernel.fds import clone_file
from sampan.spec.image import LayerResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sampan.image.tar import Entry

_PIECE = 1 << 18
_ZEROS = bytes(_PIECE)
_BATCH = 1 << 18
_AHEAD = 16  # pieces that the hash may be behind
_NO_SHARING = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM})


class Composer:
    """Makes the new directory `target` a layer: diff/, recipe, and layer.json at last. What fails leaves no layer.

    with Composer(target) as composer:
        composer.add(entry)                   # directories before what is in them
        composer.add(entry, source_fd)        # a regular file of `entry.size` bytes
        result = composer.finish()
    """

    def __init__(self, target: str, *, few: bool = False) -> None:
        """Of `few` files this process makes all: to start others takes as long as to make some dozens."""
        os.mkdir(target, 0o711)
        os.mkdir(f"{target}/{CONTENT}", 0o755)
        self._target = target
        self._root = os.open(f"{target}/{CONTENT}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchmod(self._root, 0o755)  # whatever the umask is
        self._recipe = Recorder(target)
        self._extractor = Extractor(self._root, self._recipe)
        self._few = few
        self._small_files = SmallFiles(self._root, 0 if few else MAKERS)  # forks: before there is a thread
        self._digest = Digest()
        self._shares = True
        self._padding = b""  # of the last member

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._small_files.stop()
        self._digest.stop()
        self._extractor.close()
        self._recipe.close()
        os.close(self._root)

    def add_directory(self, entry: Entry) -> None:
        """Take in a directory that is as `entry` says only where no layer below has it."""
        self.add(entry)
        self._extractor.imply(entry.name)

    def add(self, entry: Entry, source: int | None = None, *, has_holes: bool = True) -> None:
        """Take in one member. A source that is shorter than `entry.size`, since somebody writes to it, ends in zeros.

        With `has_holes` they are looked for. Raises InvalidInput for what no layer may have: see Extractor.
        """
        if source is None:
            self._begin(entry, 0)
            if entry.kind == tar.LINK:
                self._small_files.wait()  # what it links to may be one
            self._write(entry, _nothing)
            return
        self._check(entry)
        if not (has_holes or self._shares or entry.xattrs) and 0 < entry.size <= LARGEST:
            content = os.pread(source, entry.size, 0)
            self.add_content(entry, content + bytes(entry.size - len(content)))
            return
        self._begin(entry, entry.size)
        self._write(entry, lambda fd: self._fill(fd, source, entry.size, has_holes=has_holes))

    def add_content(self, entry: Entry, content: bytes) -> None:
        """Take in a regular file whose content is this, all of it. No other member may have its name."""
        self._check(entry)
        self._begin(entry, entry.size)
        if self._few or entry.xattrs or not 0 < entry.size <= LARGEST:
            self._write(entry, lambda fd: self._fill_with(fd, (content,)))
            return
        with doing(show(entry.name)[:300]):
            directory, name = self._extractor.expect(entry)
        self._digest.update(content)
        self._small_files.add(directory, name, entry, content)

    def add_pieces(self, entry: Entry, pieces: Iterable[bytes]) -> None:
        """Take in a regular file whose content comes in pieces, `entry.size` bytes in all. It may replace another."""
        self._check(entry)
        self._small_files.wait()
        self._begin(entry, entry.size)
        self._write(entry, lambda fd: self._fill_with(fd, pieces))

    def finish(self) -> LayerResult:
        """Write the rest: the layer is whole."""
        self._text(self._padding + tarwrite.END)
        self._recipe.finish()
        self._small_files.wait()
        facts = self._extractor.finish()
        digest, size = self._digest.finish()
        result = LayerResult(
            digest=digest, diff_id=digest, compressed_bytes=size, tar_bytes=size, content_bytes=facts.content_bytes
        )
        write_record(self._target, result, facts)
        return result

    def _text(self, data: bytes) -> None:
        self._recipe.text(data)
        self._digest.update(data)

    def _check(self, entry: Entry) -> None:
        if entry.name.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
            raise InvalidInput(f"{show(entry.name)}: names that begin with .wh. are a layer's marks of what is deleted")

    def _begin(self, entry: Entry, size: int) -> None:
        self._text(self._padding + tarwrite.header(entry))
        self._padding = tarwrite.padding(size)

    def _write(self, entry: Entry, fill: Callable[[int], None]) -> None:
        try:
            self._extractor.write(entry, fill)
        except (OSError, SampanError):
            with doing(show(entry.name)[:300]):
                raise

    def _fill_with(self, fd: int, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self._digest.update(piece)
            write_all(fd, piece)

    def _fill(self, fd: int, source: int, size: int, *, has_holes: bool) -> None:
        """Make the file `fd` what `source` is, and hash what it became: somebody may write to `source`."""
        shared = self._share(fd, source)
        if shared:
            os.ftruncate(fd, size)
            source = fd
        at = 0
        for start, end in data_of(source, size) if has_holes else ((0, size),):
            self._digest.zeros(start - at)
            at = start
            while at < end and (piece := os.pread(source, min(_PIECE, end - at), at)):
                self._digest.update(piece)
                if not shared:
                    _write_at(fd, piece, at)
                at += len(piece)
        if at < size:
            self._digest.zeros(size - at)
            os.ftruncate(fd, size)

    def _share(self, fd: int, source: int) -> bool:
        if self._shares:
            try:
                clone_file(fd, source)
            except OSError as e:
                if e.errno not in _NO_SHARING:
                    raise
                self._shares = False
        return self._shares


class Digest:
    """Hashes in a thread what it is given: the interpreter's lock is free meanwhile."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._count = 0
        self._small: list[bytes] = []
        self._small_size = 0
        self._queue: queue.Queue[bytes] = queue.Queue(_AHEAD)
        self._thread = threading.Thread(target=self._work, name="digest", daemon=True)
        self._thread.start()

    def update(self, data: bytes) -> None:
        """Hash these bytes, too."""
        self._small.append(data)
        self._small_size += len(data)
        if self._small_size >= _BATCH:
            self._flush()

    def zeros(self, count: int) -> None:
        """Hash so many zeros."""
        while count > 0:
            self.update(_ZEROS[:count])
            count -= _PIECE

    def finish(self) -> tuple[str, int]:
        """Return the digest, and of how many bytes it is."""
        self._flush()
        self.stop()
        return f"sha256:{self._hash.hexdigest()}", self._count

    def stop(self) -> None:
        """End the thread."""
        if self._thread.is_alive():
            self._queue.put(b"")
            self._thread.join()

    def _flush(self) -> None:
        if self._small:
            self._count += self._small_size
            self._queue.put(b"".join(self._small))
            self._small.clear()
            self._small_size = 0

    def _work(self) -> None:
        while data := self._queue.get():
            self._hash.update(data)


def _nothing(_fd: int) -> None:
    """Write no content: a mark of deletion is an empty file in the tar, and none in the layer."""


def data_of(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Give start and end of what is no hole in the first `size` bytes of a file."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as e:
            if e.errno == errno.ENXIO:  # only a hole is left; lseek(2)
                return
            raise
        if start < size:
            yield start, min(end, size)


def _write_at(fd: int, data: bytes, offset: int) -> None:
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        written += os.pwrite(fd, data[written:], offset + written)
