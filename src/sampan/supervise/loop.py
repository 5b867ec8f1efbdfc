"""The event loop of the keeper and of each shim: one thread, one epoll(7), callbacks that never block."""

from __future__ import annotations

import heapq
import os
import select
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from sampan.supervise import messages

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

IN = select.EPOLLIN
OUT = select.EPOLLOUT
HUP = select.EPOLLHUP | select.EPOLLERR
HALF_CLOSED = select.EPOLLRDHUP

_QUEUE_BYTES = 4 << 20


class Loop:
    """Calls back when a descriptor is ready or a time has come."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._forgotten: set[int] = set()  # since the kernel was last asked
        self._stopped = False

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever one of `events`, or HUP, is true of `fd`."""
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def watches(self, fd: int) -> bool:
        """Whether `fd` is watched."""
        return fd in self._callbacks

    def change(self, fd: int, events: int) -> None:
        """Wait for other events on `fd`."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; before it is closed. One that is not watched is no error."""
        if self._callbacks.pop(fd, None):
            self._epoll.unregister(fd)
            self._forgotten.add(fd)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` once, no earlier than in `delay_s` seconds."""
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + delay_s, self._count, callback))

    def stop(self) -> None:
        """Let `run` return after the callback that runs now."""
        self._stopped = True

    def run(self) -> None:
        """Call back until `stop`. A callback that raises is reported and the others go on."""
        while not self._stopped:
            for fd, events in self._epoll.poll(self._timeout_s(), 64):
                callback = self._callbacks.get(fd)
                # What was closed by a callback before may have its number again, and these events are not of that.
                if callback and fd not in self._forgotten and not self._stopped:
                    self._call(callback, events)
            self._forgotten.clear()
            self._call_timers()

    def close(self) -> None:
        """Close the epoll descriptor: in a forked child, where it is shared with the parent."""
        self._epoll.close()

    def _timeout_s(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _call_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic() and not self._stopped:
            self._call(heapq.heappop(self._timers)[2])

    def _call(self, callback: Callable[..., None], *args: int) -> None:
        try:
            callback(*args)
        except Exception:  # the processes that others depend on do not die of one bad callback
            sys.excepthook(*sys.exc_info())  # not traceback: a megabyte, in every fork


class Channel:
    """The non-blocking end of a channel of messages: what can't be sent at once is queued."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_frame: Callable[[Channel, messages.Frame], None],
        on_end: Callable[[Channel], None],
        decoder: messages.Decoder | None = None,
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.ended = False
        self._loop = loop
        self._on_frame = on_frame
        self._on_end = on_end
        self._decoder = decoder or messages.Decoder()
        self._queue: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._queued_bytes = 0
        loop.watch(sock.fileno(), IN, self._ready)

    def send(self, message: messages.Message, seq: int = 0, fds: Sequence[int] = ()) -> None:
        """Send a frame, with duplicates of `fds`; to an end that is gone, or never reads, it is dropped."""
        if self.ended:
            return
        data = memoryview(messages.encode(message, seq, len(fds)))
        if not self._queue:
            try:
                data = data[messages.send_some(self.sock, data, fds) :]
                fds = ()
            except BlockingIOError:
                pass
            except OSError:
                self.close()
                return
        if data:
            self._enqueue(data, fds)

    def close(self) -> None:
        """Close it; `on_end` is called once, whichever end closes."""
        if self.ended:
            return
        self.ended = True
        self._loop.forget(self.sock.fileno())
        self.sock.close()
        self._decoder.close()
        for _, fds in self._queue:
            _close_all(fds)
        self._queue.clear()
        self._on_end(self)

    def _enqueue(self, data: memoryview, fds: Sequence[int]) -> None:
        self._queue.append((data, tuple(os.dup(fd) for fd in fds)))
        self._queued_bytes += len(data)
        if self._queued_bytes > _QUEUE_BYTES:
            self.close()
        elif len(self._queue) == 1:
            self._loop.change(self.sock.fileno(), IN | OUT)

    def _ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if events & (IN | HUP) and not self.ended:
            self._read()

    def _flush(self) -> None:
        while self._queue:
            data, fds = self._queue[0]
            try:
                sent = messages.send_some(self.sock, data, fds)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            _close_all(fds)
            self._queued_bytes -= sent
            if sent < len(data):
                self._queue[0] = (data[sent:], ())
            else:
                self._queue.popleft()
        self._loop.change(self.sock.fileno(), IN)

    def answer_read(self) -> None:
        """Pass on the frames that are whole."""
        frames = iter(()) if self.ended else self._decoder.frames()
        for frame in frames:
            self._on_frame(self, frame)
            if self.ended:
                break

    def _read(self) -> None:
        try:
            alive = self._decoder.read(self.sock)
            self.answer_read()
        except BlockingIOError:
            return
        except ConnectionError:
            alive = False
        except messages.ProtocolError as e:
            print(f"sampan: closing a channel: {e}", file=sys.stderr)
            alive = False
        if not alive:
            self.close()


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
