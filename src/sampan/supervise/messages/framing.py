"""How messages travel: a frame of bytes, with descriptors beside it."""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.supervise.messages import base, jobs, keeper, shim

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sampan.supervise.messages.base import Message

MAX_LENGTH = (1 << 24) - 1
"""Bytes in one frame's document."""

MAX_DESCRIPTORS = 64
"""Descriptors beside one frame; the kernel's own limit is 253 (SCM_MAX_FD)."""

_HEADER = struct.Struct(">II")
_ANCILLARY = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
_READ = 1 << 16
# As plain integers: an operation on a member of an IntFlag runs Python code, in every shim's own pages.
_NOSIGNAL = int(socket.MSG_NOSIGNAL)
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_CTRUNC = int(socket.MSG_CTRUNC)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(base.Messages | jobs.Messages | keeper.Messages | shim.Messages)


class ProtocolError(Exception):
    """The other end sent what is no frame, or a message of an unknown type: close the channel."""


class Frame(NamedTuple):
    """One message as received; the receiver owns `fds` and closes them."""

    message: Message
    seq: int
    fds: tuple[int, ...]


def encode(message: Message, seq: int = 0, descriptors: int = 0) -> bytes:
    """Return the frame's bytes; `descriptors` counts those that the caller sends beside the first of them."""
    document = _encoder.encode(message)
    if len(document) > MAX_LENGTH or descriptors > MAX_DESCRIPTORS:
        raise ProtocolError(f"frame too large: {len(document)} bytes, {descriptors} descriptors")
    return _HEADER.pack(descriptors << 24 | len(document), seq) + document


def send(sock: socket.socket, message: Message, seq: int = 0, fds: Sequence[int] = ()) -> None:
    """Send one frame on a blocking socket, with duplicates of `fds`, which stay the caller's.

    Not for two threads at once on one socket. A gone peer raises BrokenPipeError, never SIGPIPE.
    """
    data = encode(message, seq, len(fds))
    sent = send_some(sock, data, fds)
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:], _NOSIGNAL)


def send_some(sock: socket.socket, data: bytes | memoryview, fds: Sequence[int] = ()) -> int:
    """Send a frame's beginning, with its descriptors; return how many bytes went."""
    if not fds:
        return sock.send(data, _NOSIGNAL)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    return sock.sendmsg([data], rights, _NOSIGNAL)


class Decoder:
    """Puts frames together from what is read; one for each channel, for blocking and non-blocking sockets alike."""

    def __init__(self, data: bytes = b"", fds: Sequence[int] = ()) -> None:
        self._data = bytearray(data)
        self._fds: deque[int] = deque(fds)

    def read(self, sock: socket.socket) -> bool:
        """Read once from `sock`; False at its end. BlockingIOError passes through."""
        data, ancillary, flags, _ = sock.recvmsg(_READ, _ANCILLARY, _CLOEXEC)
        for level, type, rights in ancillary:
            if (level, type) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._fds.extend(memoryview(rights)[: len(rights) // 4 * 4].cast("i"))
        if flags & _CTRUNC:
            raise ProtocolError("descriptors were lost: too many came, or this process may open no more")
        self._data += data
        return bool(data)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that are whole."""
        while len(self._data) >= _HEADER.size:
            word, seq = _HEADER.unpack_from(self._data)
            end = _HEADER.size + (word & MAX_LENGTH)
            if len(self._data) < end:
                return
            document = bytes(memoryview(self._data)[_HEADER.size : end])
            del self._data[:end]
            yield self._frame(document, seq, word >> 24)

    def _frame(self, document: bytes, seq: int, descriptors: int) -> Frame:
        if descriptors > len(self._fds):
            raise ProtocolError(f"{descriptors} descriptors were announced, {len(self._fds)} came")
        fds = tuple(self._fds.popleft() for _ in range(descriptors))
        try:
            return Frame(_decoder.decode(document), seq, fds)
        except msgspec.DecodeError as e:
            for fd in fds:
                os.close(fd)
            raise ProtocolError(str(e)) from e

    def rest(self) -> tuple[bytes, tuple[int, ...]]:
        """Return what was read and is no whole frame yet, or was not asked for: for another decoder to go on with."""
        return bytes(self._data), tuple(self._fds)

    def close(self) -> None:
        """Close the descriptors that no frame has claimed."""
        while self._fds:
            os.close(self._fds.popleft())


def receive(sock: socket.socket, decoder: Decoder) -> Frame | None:
    """Wait on a blocking socket for the next frame; None at its end. Keeps what it read too much in `decoder`."""
    while True:
        for frame in decoder.frames():
            return frame
        if not decoder.read(sock):
            return None
