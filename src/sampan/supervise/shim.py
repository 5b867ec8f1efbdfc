"""The shim: the parent of one container and of every exec in it, until `Forget`.

It begins when its launcher has made the container. It keeps the standard streams, the log and the exit status, and
outlives server and keeper. Everything that it knows it writes to state.json, and what it holds open the keeper holds
too: killed, it is replaced by another shim that goes on.
"""

from __future__ import annotations

import _socket
import os
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import Conflict, InvalidInput, SampanError
from sampan.supervise import binding, handover, launcher, messages as m, state as facts
from sampan.supervise.container import Container
from sampan.supervise.launcher import refusal
from sampan.supervise.loop import IN, Channel, Loop
from sampan.supervise.ports import Published
from sampan.supervise.process import Duplicates
from sampan.supervise.streams import close_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.supervise.process import Held

_LAST_OUTPUT_S = 10.0
_LAUNCHER_ENDS_S = 0.05


class TakeOver(NamedTuple):
    """What a killed shim has left to the next."""

    state: facts.State
    held: dict[str, Held]
    lost_output: bool


class Shim:
    """Channels from servers and the keeper, and what is asked on them."""

    def __init__(self, loop: Loop, id: str, directory: str, directory_fd: int, listening: socket.socket) -> None:
        self._loop = loop
        self._directory = directory
        self._directory_fd = directory_fd
        self._duplicates = Duplicates()
        self.container = Container(loop, id, directory_fd, self._tell, self._duplicates)
        self._channels: list[Channel] = []
        self._listeners: list[Channel] = []  # those that said Hello, and get events
        self._published: Published | None = None  # most containers publish no ports
        self._forgotten = False
        self._listening = listening
        loop.watch(listening.fileno(), IN, self._accept)

    # ------------------------------------------------------------------------------------------- channels

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._listening.accept()
        except OSError:
            return
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        uid = struct.unpack("3i", credentials)[1]
        if uid not in {0, os.geteuid()}:
            sock.close()
            return
        self.serve(sock)

    def serve(self, sock: socket.socket, decoder: m.Decoder | None = None, *, listens: bool = False) -> None:
        """Answer requests on a connected socket, and those that `decoder` has read already."""
        channel = Channel(self._loop, sock, self._frame, self._channel_ended, decoder)
        self._channels.append(channel)
        if listens:
            self._listeners.append(channel)
        if decoder:
            self._loop.call_later(0, channel.answer_read)

    def keep(self, sock: socket.socket) -> None:
        """Take a socket whose other end is the keeper."""
        self._duplicates.channel = Channel(self._loop, sock, self._frame, self._channel_ended)
        self._channels.append(self._duplicates.channel)

    def _channel_ended(self, channel: Channel) -> None:
        self._channels.remove(channel)
        if channel in self._listeners:
            self._listeners.remove(channel)
        if channel is self._duplicates.channel:
            self._duplicates.channel = None

    def _frame(self, channel: Channel, frame: m.Frame) -> None:
        """Answer one request; whatever goes wrong is an answer too."""
        fds = list(frame.fds)
        try:
            answer = self._answer(channel, frame.message, fds)
        except (SampanError, OSError) as e:
            answer = refusal(e)
        except Exception as e:
            sys.excepthook(*sys.exc_info())
            answer = m.Refused(error="Failed", message=f"the shim failed: {type(e).__name__}: {e}")
        finally:
            close_all(fds)
        if frame.seq and answer:
            channel.send(answer, frame.seq)
        if self._forgotten:
            self._leave()

    def _answer(self, channel: Channel, message: m.Message, fds: list[int]) -> m.Message | None:
        """Do what `message` asks for. Descriptors that are taken are removed from `fds`."""
        container = self.container
        match message:
            case m.Hello():
                if channel not in self._listeners:
                    self._listeners.append(channel)
                return container.state
            case m.Launch():
                raise Conflict(f"container {container.id} is {container.state.phase} already")
            case m.Exec():
                return container.execute(message, fds)
            case m.Go():
                container.go(message.exec_id)
            case m.Attach():
                container.attach(message, fds)
            case m.Resize():
                container.process(message.exec_id).streams.resize(message.rows, message.columns)
            case m.Signal():
                container.signal(message)
            case m.Freeze():
                container.freeze(frozen=message.frozen)
            case m.Update():
                container.limit(message)
            case m.AnswerNames():
                container.answer_names(message, fds)
            case m.HoldPorts():
                container.process(None)  # else it is not running
                self.published().hold(message, fds)
            case m.Forget():
                self._forget()
            case m.Keep():
                self._new_keeper(channel)
            case m.Collected():
                container.collect(message)
                return None
            case _:
                raise InvalidInput(f"a shim does not know what to do with {type(message).__name__}")
        return m.Done()

    def published(self) -> Published:
        """Return what holds the published ports."""
        if self._published is None:
            self._published = Published(self._loop, self._directory_fd)
        return self._published

    def _tell(self, event: m.Message) -> None:
        if self._published and isinstance(event, m.Exited):  # who is told may want them for the next container
            self._published.end()
        for channel in tuple(self._listeners):
            channel.send(event)

    # ------------------------------------------------------------------------------------------- the end

    def _forget(self) -> None:
        phase = self.container.state.phase
        if phase not in {"empty", "exited"}:
            raise Conflict(f"container {self.container.id} is {phase}: it can't be forgotten")
        if phase == "exited":
            self.container.tear_down()
        self._forgotten = True
        facts.remove(self._directory)

    def _leave(self) -> None:
        """End, when the last client has read the last output, or has not for a while."""
        deadline = time.monotonic() + _LAST_OUTPUT_S

        def look() -> None:
            if self.container.has_listeners() and time.monotonic() < deadline:
                self._loop.call_later(0.05, look)
            else:
                self._loop.stop()

        look()

    def _new_keeper(self, channel: Channel) -> None:
        """A keeper has found this shim: give it duplicates of everything."""
        self._duplicates.channel = channel
        for process in self.container.processes():
            self._duplicates.hold(process, process.streams.ends())


def wait(keeper: socket.socket, shims: str) -> None:
    """Be a shim ahead of need: have a launcher, wait for what it makes, and be that one's. `shims` is RUN/shims."""
    loop = begin(keeper, lambda sock: launcher.run(keeper, shims, sock), _LAUNCHER_ENDS_S)
    if loop:
        loop.run()


def begin(keeper: socket.socket, launch: Callable[[socket.socket], None], launcher_ends_s: float) -> Loop | None:
    """Have a child launch, and return the life of what it hands over; None in the child, or where there is nothing."""
    ours, theirs = _socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        launch(socket.socket(fileno=theirs.detach()))
        return None
    theirs.close()
    taken = handover.take(ours)
    if not taken:
        return None
    loop = resume(keeper, *taken)
    del taken
    if not handover.begun(ours):
        return None
    ours.close()
    loop.call_later(launcher_ends_s, lambda: _reap(pid))
    return loop


def _reap(pid: int) -> None:
    os.waitpid(pid, 0)


def resume(keeper: socket.socket, given: handover.Handover, fds: Iterator[int]) -> Loop:
    """Put together what the launcher has handed over; the loop that is returned is the shim's life."""
    loop = Loop()
    directory_fd, listening, first = next(fds), next(fds), next(fds)
    shim = Shim(loop, given.id, given.directory, directory_fd, socket.socket(fileno=listening))
    shim.keep(keeper)
    shim.container.take(given, fds)
    if given.ports:
        targets, ports, bound = given.ports
        sockets = {number: next(fds) for number in range(bound, len(ports))}
        shim.published().begin(targets, tuple(m.PublishedPort(*port) for port in ports), sockets)
    unread = [next(fds) for _ in range(given.unread_fds)]
    decoder = m.Decoder(given.unread, unread) if given.unread else None
    shim.serve(socket.socket(fileno=first), decoder, listens=given.listens)
    shim.container.take_clients(given, fds)
    return loop


def take_over(id: str, directory: str, keeper: socket.socket, left: TakeOver) -> None:
    """Be the shim of a container whose own was killed."""
    loop = Loop()
    try:
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:  # removed meanwhile, with whatever ran
        return
    shim = Shim(loop, id, directory, directory_fd, facts.listen(directory_fd))
    shim.keep(keeper)
    shim.container.adopt(left.state, left.held, lost_output=left.lost_output)
    ports = binding.read(directory)
    if ports and shim.container.processes():
        shim.published().begin(ports.targets, ports.ports, {})
    loop.run()
