"""Notice that a client has gone while its answer is still being waited for.

A thread in `wait`, `logs -f` or `events` sleeps in the engine and not on its socket. One thread for all of them polls
those sockets for their end and calls what ends the sleep.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GONE = select.EPOLLHUP | select.EPOLLERR


class Hangups:
    """The clients being watched."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[int, Callable[[], object]]] = {}
        self._started = False

    @contextmanager
    def watch(self, client: socket.socket, then: Callable[[], object]) -> Iterator[None]:
        """Call `then` once if the client closes its end while the `with` lasts.

        One on a Unix socket that has only said all it has to say (`nc -N`, socat) still waits for its answer; elsewhere
        the two can't be told apart. unix_poll() of Linux, net/unix/af_unix.c.
        """
        ends = _GONE if client.family == socket.AF_UNIX else _GONE | select.EPOLLRDHUP
        fd = client.fileno()
        with self._lock:
            self._watched[fd] = ends, then
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name="hangups", daemon=True).start()
        self._epoll.register(fd, ends | select.EPOLLONESHOT)
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(fd, None)
            self._epoll.unregister(fd)

    def _run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                with self._lock:  # held during the call, so that `then` is never called after the `with`
                    ends, then = self._watched.get(fd, (0, None))
                    if then is not None and _has_ended(fd, ends):
                        del self._watched[fd]
                        try:
                            then()
                        except Exception:
                            continue


def _has_ended(fd: int, ends: int) -> bool:
    """Look again: the number may be another connection's by now, which was watched after the kernel had told."""
    poll = select.poll()
    poll.register(fd, ends)  # the numbers of poll(2) are those of epoll(7)
    return bool(poll.poll(0))
