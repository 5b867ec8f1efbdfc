"""A client that is attached by a WebSocket: output as messages, and input from messages, without Docker's headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.http11 import websocket
from sampan.supervise.attach import Client

if TYPE_CHECKING:
    from sampan.supervise.loop import Loop


class WebClient(Client):
    """Sends each piece of output as one message, of `opcode`. Output and errors can't be told apart, as in Docker."""

    def __init__(self, loop: Loop, fd: int, streams: frozenset[str], opcode: int) -> None:
        super().__init__(loop, fd, streams)
        self._opcode = opcode
        self._frames = websocket.Reader()
        self._owed = b""  # what answers a ping of a client that has much to read
        self._goodbye = websocket.close(websocket.NORMAL)

    def finish(self) -> None:
        """Say goodbye, and close it once all is sent."""
        if not self._closing and not self.gone:
            self._send(self._goodbye)
        super().finish()

    def _framed(self, _stream: str, data: memoryview | bytes) -> bytes:
        return websocket.frame(self._opcode, data)

    @property
    def _may_type(self) -> bool:
        """Pings and its end must be read, also of one that only listens."""
        return not self._input_ended

    def _take(self, data: bytes) -> None:
        if content := self._frames.feed(data):
            super()._take(content)
        if self._closing or self.gone:
            return
        if self._frames.closed:
            self._goodbye = self._frames.reply
            self.finish()
        elif self._frames.reply:
            self._owed = self._frames.reply
            self._answer_ping()

    def _answer_ping(self) -> None:
        if self._owed and not self.holds_up:
            owed, self._owed = self._owed, b""
            self._send(owed)

    def _said_all(self) -> None:
        """There is no half of a WebSocket: it has gone."""
        self.close()

    def _flush(self) -> None:
        super()._flush()
        if not self.gone and not self._closing:
            self._answer_ping()
