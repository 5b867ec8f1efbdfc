"""Take the compression off a stream: gzip, zstd, xz and bzip2, known by their first bytes, several members too."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

from sampan.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IN_PIECE = 1 << 16
OUT_PIECE = 1 << 18  # larger ones cost page faults: twice the time of an unpacking at a megabyte

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
_LONGEST_MAGIC = 6


class Readable(Protocol):
    """Anything with `read`: at most `size` bytes, b"" at the end."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes."""


class _Ended(Protocol):
    """What is left of a member's decompressor when it has come to its end."""

    @property
    def unused_data(self) -> bytes: ...


class _Incremental(_Ended, Protocol):
    """The objects of lzma and bz2: they keep what they could not use yet, and say when they want more."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def kind_of(start: bytes) -> str:
    """Name the compression of a stream by its first bytes; `none` if it has none that is known."""
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    # A zstd stream may begin with a frame to be skipped: RFC 8878, 3.1.2.
    if start[1:4] == b"\x2a\x4d\x18" and start[:1] and 0x50 <= start[0] <= 0x5F:
        return "zstd"
    return "none"


def decompressed(source: Readable) -> Iterator[bytes]:
    """Give the content of `source` in pieces of up to OUT_PIECE. Raises InvalidInput where it is damaged."""
    peeked = source if isinstance(source, Peeked) else Peeked(source)
    source, kind = peeked, peeked.kind()
    try:
        match kind:
            case "gzip":
                yield from _members(source, _gunzip)
            case "zstd":
                yield from _zstd(source)
            case "xz" | "bzip2":
                yield from _members(source, _xz if kind == "xz" else _bzip2)
            case _:
                while piece := source.read(OUT_PIECE):
                    yield piece
    except InvalidInput:
        raise
    except Exception as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise InvalidInput(f"can't decompress {kind} data: {e}") from e


class Peeked:
    """A stream whose first bytes can be looked at before they are read."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._start = b""

    def peek(self, size: int) -> bytes:
        """Return the first `size` bytes, less at the end of the stream."""
        while len(self._start) < size:
            piece = self._source.read(size - len(self._start))
            if not piece:
                break
            self._start += piece
        return self._start

    def kind(self) -> str:
        """Name the stream's compression, as `kind_of`."""
        return kind_of(self.peek(_LONGEST_MAGIC))

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes."""
        if self._start:
            piece, self._start = self._start[:size], self._start[size:]
            return piece
        return self._source.read(size)


def _members(source: Readable, member: Callable[[Readable, bytes], Iterator[tuple[bytes, _Ended]]]) -> Iterator[bytes]:
    """All members one after another (pigz, `cat a.gz b.gz`); zeros after the last one are padding."""
    rest = source.read(IN_PIECE)
    while rest:
        state: _Ended | None = None
        for piece, state in member(source, rest):  # noqa: B007
            if piece:
                yield piece
        assert state is not None
        rest = state.unused_data.lstrip(b"\0")
        while not rest and (more := source.read(IN_PIECE)):
            rest = more.lstrip(b"\0")


def _gunzip(source: Readable, data: bytes) -> Iterator[tuple[bytes, _Ended]]:
    state = zlib.decompressobj(wbits=31)
    while True:
        yield state.decompress(data, OUT_PIECE), state
        if state.eof:
            return
        data = state.unconsumed_tail or _more(source, "gzip")


def _xz(source: Readable, data: bytes) -> Iterator[tuple[bytes, _Ended]]:
    import lzma

    return _pull(source, data, lzma.LZMADecompressor(), "xz")


def _bzip2(source: Readable, data: bytes) -> Iterator[tuple[bytes, _Ended]]:
    import bz2

    return _pull(source, data, bz2.BZ2Decompressor(), "bzip2")


def _pull(source: Readable, data: bytes, state: _Incremental, kind: str) -> Iterator[tuple[bytes, _Ended]]:
    while True:
        yield state.decompress(data, OUT_PIECE), state
        if state.eof:
            return
        data = _more(source, kind) if state.needs_input else b""


def _zstd(source: Readable) -> Iterator[bytes]:
    import zstandard

    with zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True, closefd=False) as reader:  # type: ignore[arg-type]
        while piece := reader.read(OUT_PIECE):
            yield piece


def _more(source: Readable, kind: str) -> bytes:
    data = source.read(IN_PIECE)
    if not data:
        raise InvalidInput(f"can't decompress {kind} data: it is cut short", "it was not written or sent to its end")
    return data
