"""Accepts connections and gives each a thread, up to a number; ends when told to, letting begun requests finish."""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
import time
import traceback
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from sampan.http11.channel import Channel, ClientGone

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

C = TypeVar("C", bound=Channel)

STACK = 1 << 20
"""Bytes that a connection's thread may use: for threading.stack_size()."""

_MOST_RESTING = 8
"""Threads that wait for a next connection: to start one takes as long as to answer a call."""

_ROOM_S = 1
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED))


class Acceptor(Generic[C]):
    """`channel` makes a connection of a socket, without waiting for the client; `serve` does all its requests.

    At most `most` connections live at once: then the one that has been idle for longest makes room, and where none is
    idle, who comes is turned away at once.
    """

    def __init__(
        self,
        listener: socket.socket,
        channel: Callable[[socket.socket], C],
        serve: Callable[[C], None],
        *,
        most: int,
    ) -> None:
        self._listener = listener
        self._make = channel
        self._do = serve
        self._most = most
        self._channels: set[C] = set()
        self._resting = 0  # threads that are in, or on their way to, the queue's `get`
        self._next: SimpleQueue[C] = SimpleQueue()
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._told, self._leave = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self, for_s: float | None = None) -> None:
        """Accept until `leave`, or for so long. What waits in the socket's queue then is for the next server."""
        self._listener.setblocking(False)
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._told, select.POLLIN)
        end = None if for_s is None else time.monotonic() + for_s
        while True:
            ready = poll.poll(None if end is None else max(0, end - time.monotonic()) * 1000)
            if not ready or any(fd == self._told for fd, _ in ready):
                return
            self._accept()

    def leave(self) -> None:
        """Stop accepting; may be called from any thread and from a signal's handler."""
        with suppress(BlockingIOError):  # it is told already, many times
            os.write(self._leave, b"x")

    def leave_at_signals(self) -> None:
        """Leave at every signal that has a handler in Python. For the main thread.

        A handler runs between two steps of the interpreter: that of a signal which comes right before the wait for
        connections would run when somebody connects.
        """
        signal.set_wakeup_fd(self._leave, warn_on_full_buffer=False)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as e:
            if e.errno not in _NO_ROOM:
                raise
            time.sleep(0.05)
            return
        channel: C | None = None
        try:
            if len(self._channels) >= self._most:
                self._make_room()
            channel = self._make(client)
            with self._lock:  # from here on `finish` waits for it
                self._channels.add(channel)
            self._give(channel)
        except (RuntimeError, OSError):  # also when no thread can be had, or the client is gone again
            if channel:
                self._drop(channel)
            client.close()

    def _make_room(self) -> None:
        """End the connection that has been idle for longest. Raises RuntimeError where all are at work."""
        with self._ended:
            idle = [(since, channel) for channel in self._channels if (since := channel.idle_since)]
            if idle:
                min(idle, key=lambda one: one[0])[1].interrupt()
            if not idle or not self._ended.wait_for(lambda: len(self._channels) < self._most, _ROOM_S):
                raise RuntimeError("too many connections")

    def _give(self, channel: C) -> None:
        """Have a thread serve it: one that rests, else a new one. Raises RuntimeError where none can be had."""
        with self._lock:
            rests = self._resting > 0
            if rests:
                self._resting -= 1
        if rests:
            self._next.put(channel)
        else:
            threading.Thread(target=self._serve_in_turn, args=(channel,), name="connection", daemon=True).start()

    def _serve_in_turn(self, channel: C) -> None:
        while True:
            self._serve(channel)
            del channel  # it is not to live until the next
            with self._lock:
                if self._resting >= _MOST_RESTING:
                    return
                self._resting += 1
            channel = self._next.get()

    def _serve(self, channel: C) -> None:
        try:
            self._do(channel)
        except ClientGone:
            pass
        except Exception:
            traceback.print_exc()
        finally:
            self._drop(channel)

    def _drop(self, channel: C) -> None:
        channel.close()
        with self._lock:
            self._channels.discard(channel)
            self._ended.notify()

    def owing(self) -> int:
        """Count the requests that have no answer yet."""
        with self._lock:
            return sum(channel.owes() for channel in self._channels)

    def finish(self, within_s: float) -> bool:
        """Give the calls that have not answered yet some time to do so; tell whether all did.

        Each is its connection's last.
        """
        with self._lock:
            for channel in self._channels:
                channel.end_after_this()
        end = time.monotonic() + within_s
        while self.owing():
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)
        return True
