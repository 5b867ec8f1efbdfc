"""The launcher: a shim's child that makes the container, hands it over and ends, so that the shim stays small.

Making a container touches a megabyte of the interpreter's pages (forks share them until somebody writes, and counting
references is writing). The shim lives as long as its container; this process lives for some milliseconds once it has
something to do. It answers the first channel until there is a container. That is the shim's child (CLONE_PARENT).
"""

from __future__ import annotations

import os
import select
import socket
import sys
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Conflict, InvalidInput, SampanError, from_os_error
from sampan.runtime import container as runtime
from sampan.runtime.plan import decode
from sampan.supervise import binding, handover, logs, messages as m, state as facts
from sampan.supervise.names import Scope, ports as numbers, take_sockets
from sampan.supervise.ports import Given
from sampan.supervise.process import clock_ns, inodes_of
from sampan.supervise.streams import close_all, pipes

if TYPE_CHECKING:
    from sampan.runtime.container import Running


class _Namespace(msgspec.Struct, frozen=True):
    type: str
    path: str | None = None


class _Linux(msgspec.Struct, frozen=True):
    namespaces: tuple[_Namespace, ...] = ()


class _Spec(msgspec.Struct, frozen=True):
    """What a shim needs to know of the OCI configuration."""

    linux: _Linux = _Linux()


_spec = msgspec.json.Decoder(_Spec)


def run(keeper: socket.socket, shims: str, shim: socket.socket) -> None:
    """Wait for the keeper to say whose container it is, make it, and hand it over. `shims` is RUN/shims."""
    decoder = m.Decoder()
    frame = m.receive(keeper, decoder)
    if frame is None or not isinstance(frame.message, m.Become):  # the keeper has ended
        return
    id = frame.message.id
    Launcher(id, f"{shims}/{id}", keeper, socket.socket(fileno=frame.fds[0]), shim).serve()


class Launcher:
    """One container's birth."""

    def __init__(
        self, id: str, directory: str, keeper: socket.socket, first: socket.socket, shim: socket.socket
    ) -> None:
        self._directory = directory
        self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._listening = facts.listen(self._directory_fd)
        self._keeper = keeper
        self._first = first
        self._shim = shim
        self._decoder = m.Decoder()
        self._state = facts.State(id=id, shim_pid=os.getppid(), boot_id=facts.boot_id())
        self._listens = False
        self._clients: list[tuple[int, m.Attach]] = []
        self._launched = False
        self._ends: dict[str, int] = {}
        self._names: list[int] = []  # the sockets of the name server
        self._ports = Given()

    def serve(self) -> None:
        """Answer until there is a container, which is the shim's then, or it is clear that there will be none."""
        try:
            while frame := self._receive():
                self._answer(frame)
                if self._launched:
                    break
                if isinstance(frame.message, m.Forget):
                    break
        except (OSError, m.ProtocolError):  # its server has died
            pass
        if not self._launched:
            self._dismiss()
            facts.remove(self._directory)
            return
        try:
            self._shim.send(handover.BEGIN)
        except OSError:  # it was killed
            pass

    def _receive(self) -> m.Frame | None:
        while True:
            try:
                return m.receive(self._first, self._decoder)
            except BlockingIOError:  # a shim that did not begin has had it, too, and made it so
                select.select((self._first,), (), ())

    def _answer(self, frame: m.Frame) -> None:
        fds = list(frame.fds)
        try:
            answer = self._do(frame.message, fds)
        except (SampanError, OSError) as e:
            answer = refusal(e)
        except Exception as e:
            sys.excepthook(*sys.exc_info())
            answer = m.Refused(error="Failed", message=f"the launcher failed: {type(e).__name__}: {e}")
        finally:
            close_all(fds)
        if frame.seq:
            m.send(self._first, answer, frame.seq)

    def _do(self, message: m.Message, fds: list[int]) -> m.Message:
        match message:
            case m.Hello():
                self._listens = True
                return self._state
            case m.Attach() if fds:
                self._clients.append((fds.pop(0), message))
            case m.Attach():
                raise InvalidInput("an attach needs the client's connection")
            case m.AnswerNames():
                self._answer_names(message, fds)
            case m.HoldPorts():
                self._hold_ports(message, fds)
            case m.Launch():
                return self._launch(message, tuple(fds))
            case m.Forget():
                facts.remove(self._directory)
            case _:
                raise Conflict(f"container {self._state.id} is not running")
        return m.Done()

    def _answer_names(self, message: m.AnswerNames, fds: list[int]) -> None:
        """Keep the sockets for the shim."""
        taken = take_sockets(fds) or self._names
        if not taken:
            raise InvalidInput("answering names needs two sockets")
        if taken is not self._names:
            close_all(self._names)
        self._names = taken
        self._state = msgspec.structs.replace(self._state, names=message, names_ports=numbers(taken))

    def _hold_ports(self, message: m.HoldPorts, fds: list[int]) -> None:
        """Keep the sockets for the shim, and note what they are for its successor."""
        if self._ports.take(message, fds):
            binding.write(self._directory_fd, message)

    def _launch(self, message: m.Launch, kept: tuple[int, ...]) -> m.Launched:
        """Make the container; note it on the disk and with the keeper; only then execute its program.

        The shim gets everything before: it puts itself together while the program is executed.
        """
        ends, theirs = ({}, None) if message.tty else pipes(stdin=message.open_stdin)
        try:
            running = runtime.create(
                decode(message.plan),
                theirs,
                console_size=message.console_size,
                gated=True,
                sibling=True,
                arrangement=runtime.Arrangement(kept=kept),
            )
        except BaseException:
            close_all(ends.values())
            self._dismiss()
            raise
        finally:
            close_all(theirs or ())
        self._ends = ends if running.console is None else {"terminal": running.console}
        self._tell_keeper(running)
        self._note(message, running)
        self._hand_over(running)
        if not message.gated:
            try:
                runtime.start(running)
            except BaseException:
                self._undo()
                raise
        self._launched = True
        return launched(running, self._state.started_at_ns)

    def _tell_keeper(self, running: Running) -> None:
        hold = m.Hold(name="", pid=running.pid, start_time=running.start_time, streams=tuple(self._ends))
        try:
            m.send(self._keeper, hold, fds=(running.pidfd, *self._ends.values()))
        except OSError:  # it has died; the next one asks
            pass

    def _note(self, message: m.Launch, running: Running) -> None:
        """Write the state. It says that the program runs before it does: afterwards nobody may be left to write it."""
        namespaces = _spec.decode(message.spec).linux.namespaces
        task = facts.Task(name="", pid=running.pid, start_time=running.start_time, streams=inodes_of(self._ends))
        self._state = msgspec.structs.replace(
            self._state,
            phase="created" if message.gated else "running",
            pid=running.pid,
            start_time=running.start_time,
            started_at_ns=None if message.gated else clock_ns(),
            cgroups=tuple(running.cgroups),
            tasks=(task,),
            own_pid_namespace=any(n.type == "pid" and n.path is None for n in namespaces),
            stdin_once=message.stdin_once,
            log=message.log,
        )
        facts.write(self._directory_fd, self._state)

    def _undo(self) -> None:
        """Be without a container again: `start` has ended the process and removed its control groups. The shim ends."""
        self._shim.close()
        try:
            m.send(self._keeper, m.Release(name=""))
        except OSError:
            pass
        os.unlink(facts.FILE, dir_fd=self._directory_fd)
        close_all(self._ends.values())
        self._ends = {}
        self._state = facts.State(id=self._state.id, shim_pid=self._state.shim_pid, boot_id=self._state.boot_id)
        close_all(self._names)
        self._names = []
        self._ports.close()
        self._dismiss()

    def _dismiss(self) -> None:
        """Let the clients go that waited for a container."""
        for fd, _ in self._clients:
            with socket.socket(fileno=fd) as sock:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
        self._clients.clear()

    def _hand_over(self, running: Running) -> None:
        """Give the shim everything. It waits for BEGIN, without which it ends."""
        state = self._state
        unread, unread_fds = self._decoder.rest()
        log, ports = state.log, self._ports.ports
        given = handover.Handover(
            id=state.id,
            directory=self._directory,
            state=facts.encode(state),
            gated=state.phase == "created",
            pid=running.pid,
            start_time=running.start_time,
            streams=tuple(self._ends),
            inodes=state.tasks[0].streams,
            stdin_once=state.stdin_once,
            own_pid_namespace=state.own_pid_namespace,
            log=logs.plain(log),
            cgroups=state.cgroups,
            listens=self._listens,
            unread=unread,
            unread_fds=len(unread_fds),
            clients=tuple((tuple(a.streams), a.detach_keys, a.already_read, a.websocket) for _, a in self._clients),
            names=tuple(Scope.of(state.names)) if state.names else None,
            ports=(ports.targets, tuple(msgspec.structs.astuple(p) for p in ports.ports), ports.first)
            if ports.ports
            else None,
        )
        descriptors = [self._directory_fd, self._listening.fileno(), self._first.fileno(), running.pidfd]
        descriptors += [*self._ends.values(), *self._names, *self._ports.sockets, *unread_fds]
        descriptors += [fd for fd, _ in self._clients]
        if given.gated:
            descriptors.append(running.gate_fd)
        try:
            handover.give(self._shim, given, descriptors)
        except BrokenPipeError:  # the shim was killed: the keeper, which holds it all too, puts another in its place
            pass


def launched(running: Running, started_at_ns: int | None) -> m.Launched:
    """Return the answer to `Launch` and `Exec`."""
    return m.Launched(
        pid=running.pid,
        start_time=running.start_time,
        started_at_ns=started_at_ns or clock_ns(),
        steps=tuple(m.Step(index=i, ns=ns) for i, ns in running.steps),
        warnings=tuple(running.warnings),
    )


def refusal(error: SampanError | OSError) -> m.Refused:
    """Return the error as it crosses to another process."""
    known = from_os_error(error) if isinstance(error, OSError) else error
    return m.Refused(error=type(known).__name__, message=known.message, hint=known.hint)
