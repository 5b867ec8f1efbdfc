"""What it takes to write a layer's tar again, bit for bit: recorded while it is unpacked, followed by `tar_of`.

A layer's digest is that of its tar, and no two programs write the same one. So all that is not the content of a file
(headers, extended headers, maps of sparse files, padding, what follows the end) is kept as it came, and for each
content the file that it was written to. That is a zstd stream of records, `recipe` in the layer's directory:

    magic          "sampan recipe 1" and a newline
    a record       kind (1 byte), length (4), number (8), little-endian, then `length` bytes
      T            bytes of the archive
      F            a file's path below diff/; `number` bytes of its content
      S            the same of a sparse file: `number` regions follow, offset and length of each (8 bytes both)
      M            a path: what was there was moved to replaced/N at this point, N counting from 0

M is for archives that have a name twice: the first one's content belongs to the tar as well.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING, Self

from sampan.errors import Failed, SampanError, doing
from sampan.image.ahead import ahead
from sampan.kernel.path import RESOLVE, openat2
from sampan.spec.decoding import decode_json
from sampan.spec.image import LayerRecord

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

RECIPE = "recipe"
REPLACED = "replaced"

_MAGIC = b"sampan recipe 1\n"
_RECORD = struct.Struct("<cIQ")
_REGION = struct.Struct("<QQ")
_LEVEL = 3
_AT_ONCE = 1 << 18
_AHEAD = 8  # pieces of a tar that are read before they are asked for
_LARGEST = 1 << 62
_BENEATH = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS
_AGAIN = "pull or load its image again"

_Record = tuple[bytes, bytes, int, tuple[tuple[int, int], ...]]  # kind, text or path, number, regions


class Recorder:
    """Writes a layer's recipe. In the order of the archive: `text` for what comes, `content` for what was written."""

    def __init__(self, layer: str) -> None:
        import zstandard

        self._layer = layer
        self._file = open(f"{layer}/{RECIPE}", "xb")  # noqa: SIM115
        self._compressor = zstandard.ZstdCompressor(_LEVEL).compressobj()
        self._waiting = [_MAGIC]
        self._size = 0
        self._replaced = 0
        self._replaced_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it, whole or not."""
        self._file.close()
        if self._replaced_fd >= 0:
            os.close(self._replaced_fd)

    def text(self, data: bytes) -> None:
        """Put down bytes of the archive."""
        self._waiting.append(_RECORD.pack(b"T", len(data), 0))
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= _AT_ONCE:
            self._flush()

    def content(self, path: bytes, size: int, regions: tuple[tuple[int, int], ...] | None = None) -> None:
        """Put down that the next bytes of the archive are in the file `path`: its first `size` ones, or regions."""
        if regions is None:
            self._waiting.append(_RECORD.pack(b"F", len(path), size))
        else:
            self._waiting.append(_RECORD.pack(b"S", len(path), len(regions)))
        self._waiting.append(path)
        for region in regions or ():
            self._waiting.append(_REGION.pack(*region))

    def move(self, dirfd: int, name: bytes, path: bytes) -> None:
        """Move aside what is called `name` in `dirfd`, a file or a directory, for a later member has its `path`."""
        if self._replaced_fd < 0:
            os.mkdir(f"{self._layer}/{REPLACED}", 0o700)
            self._replaced_fd = os.open(f"{self._layer}/{REPLACED}", os.O_RDONLY | os.O_DIRECTORY)
        os.rename(name, str(self._replaced), src_dir_fd=dirfd, dst_dir_fd=self._replaced_fd)
        self._replaced += 1
        self._waiting.append(_RECORD.pack(b"M", len(path), 0))
        self._waiting.append(path)

    def finish(self) -> None:
        """Write what is left. The recipe is whole now."""
        self._flush()
        self._file.write(self._compressor.flush())
        self._file.flush()

    def _flush(self) -> None:
        self._file.write(self._compressor.compress(b"".join(self._waiting)))
        self._waiting.clear()
        self._size = 0


def has_recipe(layer: str) -> bool:
    """Tell whether the layer's tar can be written: one that was unpacked before there were recipes has none."""
    return os.path.exists(f"{layer}/{RECIPE}")


def tar_of(layer: str) -> Iterator[bytes]:
    """Give the tar that was unpacked into the directory `layer`, in pieces, bit for bit.

    Raises Failed at its end where the tar is not what its diff id says, so nothing is to be done with the pieces before
    the end came; or at once where the layer has no recipe.
    """
    diff_id = diff_id_of(layer)
    with doing(f"can't write the tar of layer {diff_id}"):
        digest = hashlib.sha256()
        with _Files(layer) as files, ahead(_joined(files.pieces(_records(layer))), _AHEAD) as pieces:
            for piece in pieces:
                digest.update(piece)
                yield piece
        if f"sha256:{digest.hexdigest()}" != diff_id:
            raise Failed(f"it is damaged: {layer} was changed", f"{_AGAIN}, after `sampan rmi`")


def diff_id_of(layer: str) -> str:
    """Read the diff id of the layer in the directory `layer`."""
    with open(f"{layer}/layer.json", "rb") as file:
        return decode_json(file.read(), LayerRecord).diff_id


def _records(layer: str) -> Iterator[_Record]:
    import zstandard

    try:
        file = open(f"{layer}/{RECIPE}", "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise Failed("it was unpacked by a version that did not keep what that takes", _AGAIN) from None
    with file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        try:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise Failed(f"{file.name} is of an unknown version", "upgrade sampan")
            data = b""
            while more := stream.read(_AT_ONCE):
                data += more
                end = yield from _parsed(data)
                data = data[end:]
        except zstandard.ZstdError as e:
            raise Failed(f"{file.name} is damaged: {e}", _AGAIN) from e
    if data:
        raise Failed("its recipe is cut short", _AGAIN)


def _parsed(data: bytes) -> Generator[_Record, None, int]:
    """Give the records that are whole; return where they end."""
    at = 0
    while (start := at + _RECORD.size) <= len(data):
        kind, length, number = _RECORD.unpack_from(data, at)
        end = after = start + length
        regions: tuple[tuple[int, int], ...] = ()
        largest = number
        if kind == b"S":
            after += number * _REGION.size
            regions = tuple(_REGION.iter_unpack(data[end:after])) if after <= len(data) else ()
            largest = max(map(sum, regions), default=0)
        if after > len(data):
            break
        text = data[start:end]
        if kind != b"T" and (b"\0" in text or largest >= _LARGEST):
            raise Failed("its recipe is damaged", _AGAIN)
        yield kind, text, number, regions
        at = after
    return at


class _Files:
    """Finds the contents of a layer's tar, following no link."""

    def __init__(self, layer: str) -> None:
        self._layer = layer
        self._moves = _Moves(layer)
        self._root = os.open(layer, os.O_PATH | os.O_DIRECTORY)
        self._parent = b"\0"
        self._parent_fd = -1
        self._count = 0  # of contents so far

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)
        if self._parent_fd >= 0:
            os.close(self._parent_fd)

    def pieces(self, records: Iterable[_Record]) -> Iterator[bytes]:
        """Give what the records stand for."""
        for kind, text, number, regions in records:
            if kind == b"T":
                yield text
            elif kind != b"M":
                path = self._moves.find(text, self._count) if self._moves else b"diff/" + text
                self._count += 1
                try:
                    fd = self._open(path)
                    try:
                        if kind == b"F" and number <= _AT_ONCE:  # nearly every file
                            yield _whole(fd, number)
                        else:
                            for offset, length in regions if kind == b"S" else ((0, number),):
                                yield from _region(fd, offset, length)
                    finally:
                        os.close(fd)
                except (OSError, SampanError):
                    with doing(path.decode(errors="backslashreplace")):
                        raise

    def _open(self, path: bytes) -> int:
        parent, _, name = path.rpartition(b"/")
        if parent != self._parent:
            if self._parent_fd >= 0:
                os.close(self._parent_fd)
                self._parent_fd = -1
            self._parent_fd = openat2(self._root, os.fsdecode(parent), os.O_PATH | os.O_DIRECTORY, resolve=_BENEATH)
            self._parent = parent
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._parent_fd)


class _Moves:
    """Where contents are that were moved aside: a content is moved by the first move of its path that comes after it,
    or of a directory above it.
    """

    def __init__(self, layer: str) -> None:
        self._by_path: dict[bytes, list[tuple[int, int]]] = {}  # (contents before it, its number)
        if not os.path.isdir(f"{layer}/{REPLACED}"):
            return
        contents = moves = 0
        for kind, path, _, _ in _records(layer):
            if kind == b"M":
                self._by_path.setdefault(path, []).append((contents, moves))
                moves += 1
            elif kind != b"T":
                contents += 1

    def __bool__(self) -> bool:
        return bool(self._by_path)

    def find(self, path: bytes, index: int) -> bytes:
        """Return where the content with this index is, that was written to `path`, below the layer's directory."""
        first: tuple[int, bytes] | None = None
        above, below = path, b""
        while above:
            for contents, number in self._by_path.get(above, ()):
                if contents > index and (first is None or number < first[0]):
                    first = number, below
            above, _, name = above.rpartition(b"/")
            below = b"/" + name + below
        if first is None:
            return b"diff/" + path
        return b"%s/%d%s" % (REPLACED.encode(), *first)


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Put small pieces together."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _AT_ONCE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _whole(fd: int, size: int) -> bytes:
    data = os.read(fd, size)
    return data if len(data) == size else data + b"".join(_region(fd, len(data), size - len(data)))


def _region(fd: int, offset: int, length: int) -> Iterator[bytes]:
    while length:
        piece = os.pread(fd, min(length, _AT_ONCE), offset)
        if not piece:
            raise Failed("the file is shorter than it was")
        yield piece
        offset += len(piece)
        length -= len(piece)
