"""A worker whose input has ended in the middle of a layer keeps what it has, and waits for somebody to go on with it.

The network was down, the client has left, another layer has failed, the server was killed: what is unpacked so far,
and the state of the checksums and of the decompressor, need not be made again. The worker answers `Parked` and waits at
a socket in the layer's directory, which it holds (`image.unfinished`). Whoever pulls the layer next connects, asks for
the `Position`, and sends `Feed`. After a while without one the worker gives up.
"""

from __future__ import annotations

import os
import select
import socket
import time

from sampan.errors import Failed
from sampan.image import unfinished
from sampan.kernel.process import trim_memory
from sampan.kernel.trees import remove_tree
from sampan.supervise import messages as m
from sampan.supervise.state import connect

_PARKED_S = 15 * 60.0
_TALK_S = 10.0
_BACKLOG = 16


class Parking:
    """Where one layer's worker is reached: by the channel of its first request, later by those that connect."""

    def __init__(self, place: str, sock: socket.socket, seq: int) -> None:
        self._place = place
        self._sock = sock
        self._seq = seq
        self._lock = unfinished.hold(place)
        self._listening = _listen(self._lock)
        self._pipe = -1

    def more(self, count: int) -> int:
        """Tell that `count` bytes have come and are not all; return a descriptor that goes on there.

        Raises Failed when nobody goes on with it.
        """
        self.answer(m.Parked(compressed_bytes=count))
        return self.wait(count)

    def answer(self, message: m.Message) -> bool:
        """Answer the request that is being done; False if nobody is there to read it."""
        try:
            m.send(self._sock, message, self._seq)
        except OSError:
            return False
        return True

    def wait(self, count: int) -> int:
        """Wait for a `Feed`, telling who connects that `count` bytes have come; return its descriptor."""
        self._sock.close()
        trim_memory()  # the pieces that were on their way are most of what a worker has
        end = time.monotonic() + _patience_s()
        poll = select.poll()
        poll.register(self._listening, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            if poll.poll(left * 1000) and self._talk(self._listening.accept()[0], count):
                return self._pipe
        raise Failed("it was interrupted, and nobody went on with it")

    def _talk(self, sock: socket.socket, count: int) -> bool:
        """Answer somebody until they go, or feed us."""
        sock.settimeout(_TALK_S)
        decoder = m.Decoder()
        try:
            while frame := m.receive(sock, decoder):
                match frame.message:
                    case m.Feed() if frame.fds:
                        self._go_on(sock, frame)
                        return True
                    case m.Forget():
                        self._sock, self._seq = sock, frame.seq
                        raise Failed("it was interrupted, and is given up")
                    case _:
                        m.send(sock, m.Parked(compressed_bytes=count), frame.seq)
        except (OSError, m.ProtocolError):
            pass
        sock.close()
        return False

    def _go_on(self, sock: socket.socket, frame: m.Frame) -> None:
        sock.settimeout(None)
        self._sock, self._seq = sock, frame.seq
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe = frame.fds[0]

    @property
    def undisturbed(self) -> bool:
        """Whether the channel of the first request has served to the end."""
        return self._pipe < 0

    def close(self) -> None:
        """Let go of the directory, of a layer that is whole."""
        self._listening.close()
        os.close(self._lock)

    def remove(self) -> None:
        """Remove the directory, of a layer that will not be."""
        remove_tree(self._place)


def end_all(tmp: str, timeout_s: float) -> None:
    """Let all workers give up that wait in directories of `tmp`; return when they have, or the time is over."""
    waiting = []
    for name in os.listdir(tmp) if os.path.isdir(tmp) else ():
        sock = connect(f"{tmp}/{name}", unfinished.SOCKET)
        if sock:
            waiting.append(sock)
            try:
                m.send(sock, m.Forget(), 1)
            except OSError:  # it has just given up
                continue
    end = time.monotonic() + timeout_s
    for sock in waiting:
        with sock:
            select.select((sock,), (), (), max(0.0, end - time.monotonic()))


def _listen(directory: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(f"/proc/self/fd/{directory}/{unfinished.SOCKET}")
    sock.listen(_BACKLOG)
    return sock


def _patience_s() -> float:
    text = os.environ.get("SAMPAN_PARKED_S", "")
    return float(text) if text.replace(".", "", 1).isdigit() else _PARKED_S
