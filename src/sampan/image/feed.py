"""Feed layers to unpackers through pipes, several at once, without a temporary copy."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

    from sampan.image.layers import Unpacked, Unpacker

AT_ONCE = 4
_PIPE_BYTES = 1 << 20


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
    ) -> Future[Unpacked]:
        """Send a layer's bytes to an unpacker that makes `target`; return when they are sent, not when it is done.

        No more `pieces` are taken once the unpacker has given up. What fails in them is raised here; then the unpacker
        has seen an early end, and whatever it says is not to be used.
        """
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            _enlarge(writing)
            future = self._pool.submit(self._run, reading, target, digest, diff_id)
        except BaseException:
            os.close(reading)
            os.close(writing)
            raise
        try:
            _write(writing, pieces)
        finally:
            os.close(writing)
        return future

    def _run(self, reading: int, target: str, digest: str | None, diff_id: str | None) -> Unpacked:
        try:
            return self._unpack(reading, target, digest=digest, diff_id=diff_id)
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


def _enlarge(fd: int) -> None:
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:  # more than this user may have: slower, not wrong
        pass
