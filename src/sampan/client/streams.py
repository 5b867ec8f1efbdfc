"""A container's standard streams over a hijacked connection, and Docker's frames in which they come."""

from __future__ import annotations

import _socket
import struct
from typing import TYPE_CHECKING, Self

from sampan.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sampan.client.wire import Hijacked

NAMES = {0: "stdin", 1: "stdout", 2: "stderr"}

_LONGEST_FRAME = 1 << 30


def frames(pieces: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Give ("stdout" | "stderr", data) of a multiplexed stream, a frame each, whatever pieces it comes in."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        at = 0
        while len(buffer) - at >= 8:
            stream, length = struct.unpack_from(">BxxxL", buffer, at)
            if stream not in NAMES or length > _LONGEST_FRAME:
                raise Failed("can't read the container's output: the stream is not in Docker's frames")
            if len(buffer) - at - 8 < length:
                break
            yield NAMES[stream], bytes(buffer[at + 8 : at + 8 + length])
            at += 8 + length
        del buffer[:at]
    if buffer:
        raise Failed("can't read the container's output: it ended in the middle of a frame")


def gather(chunks: Iterable[tuple[str, bytes]]) -> tuple[bytes, bytes]:
    """Return all of standard output and all of standard error."""
    out: list[bytes] = []
    err: list[bytes] = []
    for name, data in chunks:
        (err if name == "stderr" else out).append(data)
    return b"".join(out), b"".join(err)


class Stream:
    """The standard streams of a container or an exec: iterate for `("stdout" | "stderr", bytes)`.

    With a terminal everything is "stdout".
    """

    def __init__(self, hijacked: Hijacked, *, tty: bool) -> None:
        self._socket = hijacked.socket
        self._read = hijacked.read
        self._tty = tty

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        if not self._tty:
            return frames(self._pieces())
        return (("stdout", piece) for piece in self._pieces())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Send bytes to the standard input."""
        try:
            self._socket.sendall(data)
        except OSError as e:
            raise Failed(f"can't write to the container's standard input: {(e.strerror or str(e)).lower()}") from e

    def close_stdin(self) -> None:
        """End the standard input; output goes on."""
        try:
            self._socket.shutdown(_socket.SHUT_WR)
        except OSError as e:
            raise Failed(f"can't close the container's standard input: {(e.strerror or str(e)).lower()}") from e

    def read(self) -> tuple[bytes, bytes]:
        """Return all of standard output and of standard error until the end."""
        return gather(self)

    def fileno(self) -> int:
        """The connection's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Detach; the container runs on."""
        self._socket.close()

    def _pieces(self) -> Iterator[bytes]:
        if self._read:
            first, self._read = self._read, b""
            yield first
        while True:
            try:
                piece = self._socket.recv(65536)
            except OSError as e:
                raise Failed(f"can't read the container's output: {(e.strerror or str(e)).lower()}") from e
            if not piece:
                return
            yield piece
