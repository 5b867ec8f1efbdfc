"""`attach`: a client's connection goes to the shim, or waits for the start of a container that is not running yet."""

from __future__ import annotations

import os
import select
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sampan.engine import lifecycle
from sampan.engine.lifecycle import Verb
from sampan.engine.reaching import ask
from sampan.engine.requests import LogsQuery
from sampan.errors import SampanError, Unsupported
from sampan.http11 import websocket
from sampan.spec.state import Status
from sampan.supervise import messages
from sampan.units import parse_detach_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.engine.requests import AttachQuery

_WEBSOCKET_SINCE = 2  # the version of a shim's messages

STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}


def frame(stream: str, data: bytes) -> bytes:
    """Put Docker's eight-byte header before a piece of a stream."""
    return struct.pack(">BxxxI", STREAMS[stream], len(data)) + data


def tell_client(fd: int, error: SampanError, *, tty: bool) -> None:
    """Write an error to a connection whose HTTP answer is sent already."""
    text = _told(error, "\r\n" if tty else "\n")
    send(fd, text if tty else frame("stderr", text))


def _told(error: SampanError, end: str) -> bytes:
    hint = f"  hint: {error.hint}{end}" if error.hint else ""
    return f"{error.message}{end}{hint}".encode()


def send(fd: int, data: bytes) -> bool:
    """Write all of it; False when the client is gone."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        return False
    return True


class AttachSession:
    """A checked attach that waits for the client's connection."""

    def __init__(self, core: Core, container: Container, query: AttachQuery) -> None:
        lifecycle.check(Verb.ATTACH, container.state, container.id)
        self._core = core
        self._container = container
        self._query = query
        self._keys = parse_detach_keys(query.detach_keys) if query.detach_keys else b"\x10\x11"
        if query.websocket and container.running:
            status = ask(container, Verb.ATTACH, messages.Hello(), messages.Status)
            if status.version < _WEBSOCKET_SINCE:
                raise Unsupported(
                    f"can't attach to {container.name} by a WebSocket: an earlier sampan has started it", "restart it"
                )

    @property
    def tty(self) -> bool:
        """Whether the streams are raw."""
        return self._container.body.tty

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Keep a container that is to be waited for from starting: a client that has its answer may start it at once.

        A past that is still to be sent is not waited for: a slow client would hold others up.
        """
        with self._container.lock:
            past = self._query.logs and self._container.state.status is not Status.CREATED
            if not self._container.running and not past:
                yield
                return
        yield

    def hand_over(self, fd: int, already_read: bytes = b"") -> None:
        """Give the connection to the shim; a failure is written to the client."""
        try:
            handed_over = self._hand_over(fd, already_read)
        except SampanError as e:
            handed_over = False
            send(fd, self._form("stderr", _told(e, "\r\n" if self.tty else "\n")))
        if not handed_over and self._query.websocket:
            send(fd, websocket.close(websocket.NORMAL))

    def _form(self, stream: str, data: bytes) -> bytes:
        """Return a piece of a stream as the client gets it."""
        if self._query.websocket:
            return websocket.frame(self._query.websocket, data)
        return data if self.tty else frame(stream, data)

    def _hand_over(self, fd: int, already_read: bytes) -> bool:
        """False where nothing more is to come."""
        core, container = self._core, self._container
        if self._query.logs and not self._send_past(fd):
            return False
        if not self._query.stream:
            return False
        message = messages.Attach(
            streams=self._streams(),
            detach_keys=self._keys,
            already_read=already_read,
            websocket=self._query.websocket,
        )
        core.tell(container, "attach")
        with container.lock:
            if not container.running:
                _let_go_of_gone(container)
                container.attaching.append((os.dup(fd), message))
                return True
        return self._give(fd, message)

    def _give(self, fd: int, message: messages.Attach) -> bool:
        """Give the connection to the shim; False where the container has ended meanwhile."""
        try:
            ask(self._container, Verb.ATTACH, message, messages.Done, fds=(fd,))
        except SampanError:
            if self._container.running:
                raise
            return False
        return True

    def _streams(self) -> frozenset[Literal["stdin", "stdout", "stderr"]]:
        found: set[Literal["stdin", "stdout", "stderr"]] = set()
        if self._query.stdin and self._container.body.open_stdin:
            found.add("stdin")
        if self._query.stdout:
            found.add("stdout")
        if self._query.stderr:
            found.add("stderr")
        return frozenset(found)

    def _send_past(self, fd: int) -> bool:
        from sampan.engine.logs import read_logs

        # What is written while a slow client reads belongs to the past as well: the handover comes right behind.
        query = LogsQuery(stdout=self._query.stdout, stderr=self._query.stderr, follow=True)
        for stream, data in read_logs(self._core, self._container, query, catch_up=True):
            if not send(fd, self._form(stream, data)):
                return False
        return True

    def abandon(self) -> None:
        """The connection broke before it was handed over: nothing was done yet."""


def _let_go_of_gone(container: Container) -> None:
    """Close the connections of clients that have left before the start that they waited for."""
    poll = select.poll()
    for fd, _ in container.attaching:
        poll.register(fd, 0)
    gone = {fd for fd, _ in poll.poll(0)}
    container.attaching = [(fd, message) for fd, message in container.attaching if fd not in gone]
    for fd in gone:
        os.close(fd)
