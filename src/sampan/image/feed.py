"""Feed layers to unpackers through pipes, several at once, and take them from packers, without a temporary copy."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from sampan.image.compression import Compression
    from sampan.image.layers import Packed, Packer, Unpacked, Unpacker

AT_ONCE = 4
_PIPE_BYTES = 1 << 20
_PIECE = 1 << 18


class Feeder:
    """Unpacks up to AT_ONCE layers at once. Leaving the block waits for those that have begun."""

    def __init__(self, unpack: Unpacker) -> None:
        self._unpack = unpack
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="unpack")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True)  # one that is cancelled would leave its pipe open

    def feed(
        self,
        pieces: Iterable[bytes | memoryview],
        target: str,
        *,
        digest: str | None = None,
        diff_id: str | None = None,
        size: int | None = None,
        by: Unpacker | None = None,
    ) -> Future[Unpacked]:
        """Send a layer's bytes to an unpacker that makes `target`; return when they are sent, not when it is done.

        `by` is one that goes on with a layer; else this feeder's begins. No more `pieces` are taken once it has given
        up. What fails in them is raised here, when the unpacker has seen their early end and has said something, which
        is not to be used.
        """
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            enlarge(writing)
            unpack = partial(by or self._unpack, reading, target, digest=digest, diff_id=diff_id, size=size)
            future = self._pool.submit(_run, unpack, reading)
        except BaseException:
            os.close(reading)
            os.close(writing)
            raise
        try:
            _write(writing, pieces)
        except BaseException:
            os.close(writing)
            wait((future,))
            raise
        os.close(writing)
        return future


def _run(unpack: Callable[[], Unpacked], reading: int) -> Unpacked:
    try:
        return unpack()
    finally:
        os.close(reading)


class Packing:
    """A layer while it is packed: iterate over its bytes, then there is `result`."""

    def __init__(self, reading: int, future: Future[Packed]) -> None:
        self._reading = reading
        self._future = future

    def __iter__(self) -> Iterator[bytes]:
        """Give the bytes as they come. What fails in the packer is raised at their end, which then is an early one."""
        while piece := os.read(self._reading, _PIECE):
            yield piece
        self._future.result()

    @property
    def result(self) -> Packed:
        """What was packed: to be asked for when all bytes were taken."""
        return self._future.result()


@contextmanager
def packed(pack: Packer, layer: str, compression: Compression) -> Iterator[Packing]:
    """Pack the layer in the directory `layer`; give its bytes. Leaving the block early stops the packer."""
    reading, writing = os.pipe2(os.O_CLOEXEC)

    def run() -> Packed:
        try:
            return pack(layer, writing, compression=compression)
        finally:
            os.close(writing)

    with ThreadPoolExecutor(1, thread_name_prefix="pack") as pool:
        try:
            enlarge(writing)
            yield Packing(reading, pool.submit(run))
        finally:
            os.close(reading)


def _write(fd: int, pieces: Iterable[bytes | memoryview]) -> None:
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(fd, rest) :]
    except BrokenPipeError:  # the unpacker has failed, and its result says why
        pass


def enlarge(fd: int) -> None:
    """Let a pipe hold more: its ends wait for one another less often."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:  # more than this user may have: slower, not wrong
        pass
