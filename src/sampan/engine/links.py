"""The server's ends of the channels to keeper, shims and workers.

Requests are sent by the thread that asks; one thread waits with epoll(7) for everything that comes in, hands answers to
whoever waits for them and calls back for events. Callbacks run on that thread: they must not block.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import sys
import threading
import traceback
from typing import TYPE_CHECKING, TypeVar

from sampan.errors import CLASSES, Failed, SampanError
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SEND_TIMEOUT_S = 30
_T = TypeVar("_T", bound=messages.Message)


class Pending:
    """An answer that has not come yet."""

    __slots__ = ("_answer", "_came", "_then", "_what")

    def __init__(self, what: str, then: Callable[[messages.Message], None] | None = None) -> None:
        self._what = what
        self._then = then
        self._came = threading.Lock()
        self._came.acquire()
        self._answer: messages.Message | SampanError | None = None

    def set(self, answer: messages.Message | SampanError) -> None:
        """Give the answer, once; `then` sees it before whoever waits, and before any event behind it."""
        self._answer = answer
        try:
            if self._then and isinstance(answer, messages.Message):
                self._then(answer)
        finally:
            self._came.release()

    @property
    def broken(self) -> bool:
        """Whether the channel was lost before an answer came."""
        return isinstance(self._answer, SampanError)

    def wait(self, kind: type[_T], timeout_s: float) -> _T:
        """Return the answer; raise what `Refused` says, or `Failed` when none comes in time, or a wrong one."""
        if not self._came.acquire(timeout=timeout_s):
            raise Failed(f"{self._what}: no answer within {timeout_s:g} seconds")
        self._came.release()
        answer = self._answer
        if isinstance(answer, SampanError):
            raise answer
        if isinstance(answer, messages.Refused):
            raise CLASSES.get(answer.error, Failed)(answer.message, answer.hint)
        if not isinstance(answer, kind):
            raise Failed(f"{self._what}: answered {type(answer).__name__}, not {kind.__name__}")
        return answer

    def wait_quietly(self, timeout_s: float) -> bool:
        """Wait for the answer whatever it is; False when it does not come in time."""
        if not self._came.acquire(timeout=timeout_s):
            return False
        self._came.release()
        return True


class Channel:
    """One connection to a keeper, shim or worker. `gone` is set once its other end is, `failed` when that is clear."""

    def __init__(
        self, links: Links, sock: socket.socket, who: str, on_event: Callable[[messages.Message], None] | None = None
    ) -> None:
        self.who = who
        self.gone = False
        self.failed = False
        self.on_event = on_event
        self.on_gone: Callable[[Channel], None] | None = None
        self._links = links
        self._sock = sock
        self._decoder = messages.Decoder()
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._pending: dict[int, Pending] = {}

    def post(
        self,
        message: messages.Message,
        fds: Sequence[int] = (),
        then: Callable[[messages.Message], None] | None = None,
    ) -> Pending:
        """Send a request without waiting for its answer. `fds` stay the caller's. `then` runs on the reading thread."""
        pending = Pending(f"can't reach {self.who}", then)
        with self._sending:
            if self.gone:
                pending.set(Failed(f"can't reach {self.who}: it is gone"))
                return pending
            number = next(self._numbers)
            self._pending[number] = pending
            try:
                messages.send(self._sock, message, number, fds)
            except OSError as e:
                # It is gone, or has read nothing for long, and half a frame may be on its way: the end in any case.
                self.failed = True
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
                if self._pending.pop(number, None):
                    pending.set(Failed(f"can't reach {self.who}: {(e.strerror or str(e)).lower()}"))
        return pending

    def ask(self, message: messages.Message, kind: type[_T], fds: Sequence[int] = (), timeout_s: float = 60) -> _T:
        """Send a request and return its answer."""
        return self.post(message, fds).wait(kind, timeout_s)

    def close(self) -> None:
        """Let go of it, from this side: `on_gone` is not called."""
        self.on_gone = None
        self._links.drop(self)

    # -- called by Links on its thread

    def receive(self) -> bool:
        """Read what has come; False at the end."""
        try:
            alive = self._decoder.read(self._sock)
        except BlockingIOError:
            return True
        except (OSError, messages.ProtocolError):
            return False
        try:
            for frame in self._decoder.frames():
                self._deliver(frame)
        except messages.ProtocolError as e:
            print(f"sampan: {self.who}: {e}", file=sys.stderr)
            return False
        return alive

    def _deliver(self, frame: messages.Frame) -> None:
        for fd in frame.fds:  # nothing sends descriptors to the server
            os.close(fd)
        if frame.seq:
            pending = self._pending.pop(frame.seq, None)
            if pending:
                pending.set(frame.message)
        elif self.on_event:
            self.on_event(frame.message)

    def end(self) -> None:
        """Fail what is pending and close."""
        with self._sending:
            if self.gone:
                return
            self.gone = self.failed = True
            waiting = list(self._pending.values())
            self._pending.clear()
            self._sock.close()
            self._decoder.close()
        for pending in waiting:
            pending.set(Failed(f"can't reach {self.who}: it has ended"))

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()


class Links:
    """All channels, and the thread that reads them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._channels: dict[int, Channel] = {}
        self._lock = threading.Lock()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._epoll.register(self._wake_read, select.EPOLLIN)
        self._dropped: list[Channel] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="links", daemon=True)
        self._thread.start()

    def add(self, sock: socket.socket, who: str, on_event: Callable[[messages.Message], None] | None = None) -> Channel:
        """Take over a connected socket."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@qq", _SEND_TIMEOUT_S, 0))
        channel = Channel(self, sock, who, on_event)
        with self._lock:
            self._channels[sock.fileno()] = channel
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        return channel

    def pair(
        self, who: str, on_event: Callable[[messages.Message], None] | None = None
    ) -> tuple[Channel, socket.socket]:
        """Return a channel and the other end, to be given to the process at it."""
        ours, theirs = socket.socketpair()
        return self.add(ours, who, on_event), theirs

    def connect(self, path: str, who: str, on_event: Callable[[messages.Message], None] | None = None) -> Channel:
        """Connect to the socket `path`, however long: it is reached through its directory's descriptor, see unix(7)."""
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(5)
            sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
            sock.settimeout(None)
        except OSError:
            sock.close()
            raise
        finally:
            os.close(directory)
        return self.add(sock, who, on_event)

    def drop(self, channel: Channel) -> None:
        """Close a channel from any thread; the reading thread does it, so that it never reads a reused descriptor."""
        with self._lock:
            self._dropped.append(channel)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def close(self) -> None:
        """Stop the thread and close every channel."""
        self._stop = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")
        self._thread.join(5)
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)
        self._epoll.close()

    def _run(self) -> None:
        while not self._stop:
            for fd, _ in self._epoll.poll():
                try:
                    self._ready(fd)
                except Exception:  # one broken callback must not take the others' answers away
                    traceback.print_exc()
            self._close_dropped()
        for channel in list(self._channels.values()):
            channel.on_gone = None
            self._end(channel)

    def _ready(self, fd: int) -> None:
        if fd == self._wake_read:
            os.read(fd, 4096)
            return
        channel = self._channels.get(fd)
        if channel and not channel.receive():
            self._end(channel)

    def _close_dropped(self) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, []
        for channel in dropped:
            self._end(channel)

    def _end(self, channel: Channel) -> None:
        fd = channel.fileno()
        if fd < 0:
            return
        with self._lock:
            self._channels.pop(fd, None)
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)
        channel.end()
        if channel.on_gone:
            channel.on_gone(channel)
