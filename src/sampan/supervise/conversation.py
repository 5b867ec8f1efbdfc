"""DNS over TCP, as a server: messages with their length in front, answered one after the other. RFC 7766."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sampan.network import dns
from sampan.supervise.loop import HUP, IN, OUT

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sampan.supervise.loop import Loop

    Asked = Callable[[bytes, Callable[[bytes], None]], None]

_AT_ONCE = 16
_IDLE_S = 10.0
_TICK_S = 2.0
_PIECE = 4096


class _Conversation:
    """One client. It is not read from while it has answers to take."""

    def __init__(self, loop: Loop, sock: socket.socket, asked: Asked, on_end: Callable[[_Conversation], None]) -> None:
        self._loop = loop
        self._sock = sock
        self._asked = asked
        self._on_end = on_end
        self._read = bytearray()
        self._out = b""
        self._waits = False  # for an answer
        self._pumps = False
        self._events = IN
        self.ended = False
        self.used = time.monotonic()
        sock.setblocking(False)
        loop.watch(sock.fileno(), IN, self._ready)

    def close(self) -> None:
        """End it."""
        if not self.ended:
            self.ended = True
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._on_end(self)

    def _ready(self, events: int) -> None:
        try:
            if events & OUT:
                self._flush()
            if events & IN and not self._out:
                piece = self._sock.recv(_PIECE)
                self._read += piece
                self.used = time.monotonic()
                if not piece:
                    self.close()
            elif events & HUP:
                self.close()
        except BlockingIOError:
            return
        except OSError:
            self.close()
        self._pump()

    def _pump(self) -> None:
        """Ask what has come. An answer may come at once, from within `_asked`."""
        if self._pumps:
            return
        self._pumps = True
        while not (self.ended or self._waits or self._out) and (message := self._next()):
            self._waits = True
            self._asked(message, self._reply)
        self._pumps = False
        if not self.ended:
            self._watch()

    def _next(self) -> bytes:
        """Take a whole message off what was read; b"" while there is none. One that is too large ends it."""
        length = int.from_bytes(self._read[:2], "big")
        if length > dns.LARGEST_UDP or (len(self._read) >= 2 and not length):
            self.close()
        elif len(self._read) >= 2 + length > 2:
            message = bytes(self._read[2 : 2 + length])
            del self._read[: 2 + length]
            return message
        return b""

    def _reply(self, answer: bytes) -> None:
        if self.ended:
            return
        self._waits = False
        self._out = len(answer).to_bytes(2, "big") + answer
        try:
            self._flush()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        self._pump()

    def _flush(self) -> None:
        self._out = self._out[self._sock.send(self._out) :]
        self.used = time.monotonic()

    def _watch(self) -> None:
        events = OUT if self._out else 0 if self._waits else IN
        if events != self._events:
            self._events = events
            self._loop.change(self._sock.fileno(), events)


class Conversations:
    """All clients of a listening socket, which is theirs: a few at once, of which the idlest makes way for another."""

    def __init__(self, loop: Loop, listening: socket.socket, asked: Asked) -> None:
        self._loop = loop
        self._listening = listening
        self._asked = asked
        self._all: list[_Conversation] = []
        self._ticking = False
        listening.setblocking(False)
        loop.watch(listening.fileno(), IN, self._accept)

    def close(self) -> None:
        """End all of them."""
        self._loop.forget(self._listening.fileno())
        self._listening.close()
        for conversation in tuple(self._all):
            conversation.close()

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._listening.accept()
        except OSError:
            return
        if len(self._all) >= _AT_ONCE:
            min(self._all, key=lambda conversation: conversation.used).close()
        self._all.append(_Conversation(self._loop, sock, self._asked, self._all.remove))
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        """End those that say nothing any more."""
        oldest = time.monotonic() - _IDLE_S
        for conversation in tuple(self._all):
            if conversation.used < oldest:
                conversation.close()
        self._ticking = bool(self._all)
        if self._ticking:
            self._loop.call_later(_TICK_S, self._tick)
