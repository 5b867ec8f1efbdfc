"""One container as its shim sees it: launched, attached to, executed in, paused, ended, torn down, or adopted."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Conflict, InvalidInput, NotFound
from sampan.kernel import process as kernel
from sampan.runtime import container as runtime, control, counting
from sampan.runtime.container import Running
from sampan.runtime.plan import decode
from sampan.spec.ending import Sent
from sampan.supervise import logs, messages as m, state as facts
from sampan.supervise.attach import Client
from sampan.supervise.launcher import launched
from sampan.supervise.loop import IN
from sampan.supervise.names import Names, Scope, open_again, ports, take_sockets
from sampan.supervise.process import Process, clock_ns, ended_by, exit_code, find, inodes_of, reopen
from sampan.supervise.record import Record
from sampan.supervise.streams import Streams, close_all, nowhere, pipes
from sampan.supervise.web_client import WebClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sampan.supervise.handover import Handover
    from sampan.supervise.loop import Loop
    from sampan.supervise.process import Duplicates, Held

_FINISHED_EXECS = 32
_BIND_AGAIN_S = 1.0
_REMEMBERED_SIGNALS = 3


class Container:
    """Every method runs on the shim's one thread; what takes long is the kernel's. `tell` sends servers an event."""

    def __init__(
        self, loop: Loop, id: str, directory_fd: int, tell: Callable[[m.Message], None], duplicates: Duplicates
    ) -> None:
        self.id = id
        self._loop = loop
        self._record = Record(loop, directory_fd)
        self._tell = tell
        self._duplicates = duplicates
        self._own_pid_namespace = True
        self._init: Process | None = None
        self._execs: dict[str, Process] = {}
        self._finished: dict[str, m.ExecStatus] = {}
        self._waiting: list[tuple[Client, bytes, bytes]] = []  # with the detach keys and what was read already
        self._parting: list[Streams] = []
        self._log: logs.Log | None = None
        self._names: Names | None = None
        self._collected: dict[int, int] = {}
        self._torn_down = False
        self._killed = False

    # ---------------------------------------------------------------------------------------- what is known

    @property
    def state(self) -> facts.State:
        """Return what is known."""
        return self._record.state

    def change(self, **fields: object) -> None:
        """Change what is known, and write it down with what runs now."""
        self._record.change(
            tasks=tuple(p.task() for p in self.processes()),
            execs=(*self._finished.values(), *(m.ExecStatus(exec_id=p.name, pid=p.pid) for p in self._execs.values())),
            dropped_log_lines=self._log.dropped_lines if self._log else self.state.dropped_log_lines,
            **fields,
        )

    def processes(self) -> list[Process]:
        """Return those that run: the init first."""
        return [*([self._init] if self._init else []), *self._execs.values()]

    def process(self, exec_id: str | None) -> Process:
        """Return the init (None) or a running exec; raise what Docker says where it does not run."""
        if exec_id is not None:
            found = self._execs.get(exec_id)
            if not found:
                raise NotFound(f"No such exec instance: {exec_id}")
            return found
        if not self._init:
            raise Conflict(f"container {self.id} is not running")
        return self._init

    def cgroups(self) -> tuple[tuple[str, str], ...]:
        """Return the running container's control groups."""
        self.process(None)
        return self.state.cgroups

    def limit(self, message: m.Update) -> None:
        """Change its limits; groups that it had no use for before are made now."""
        there = self.cgroups()
        lacking = tuple(group for group in message.groups if group not in there)
        if lacking:
            self.change(cgroups=(*there, *lacking))  # first: they are removed with the others then
        control.join(self.cgroups(), message.groups)  # also those that a killed shim had noted, and no more
        control.update(self.cgroups(), message.writes)

    def has_listeners(self) -> bool:
        """Whether a client, or who gets the log, still has output to read, though its process has ended."""
        return any(streams.clients for streams in self._parting) or (self._log is not None and self._log.pending)

    # -------------------------------------------------------------------------------------------- beginnings

    def take(self, given: Handover, fds: Iterator[int]) -> None:
        """Go on with what the launcher has made."""
        self._record.take(given.state)
        self._own_pid_namespace = given.own_pid_namespace
        self._log = logs.opened(self._loop, given.log)
        init = self._init = Process("", given.pid, next(fds), given.start_time)
        init.inodes = given.inodes
        ends = {stream: next(fds) for stream in given.streams}
        self._supervise(init, ends, closes_stdin=given.stdin_once)
        if given.names:
            self._names = Names(self._loop, Scope(*given.names), [next(fds), next(fds)], init.pidfd)

    def take_clients(self, given: Handover, fds: Iterator[int]) -> None:
        """Take the clients that have attached before there was a container."""
        for streams, keys, already_read, websocket in given.clients:
            client = self._client(next(fds), frozenset(streams), websocket)
            self._waiting.append((client, keys, already_read))
        if given.gated:
            assert self._init
            init = self._init
            running = Running.adopt(init.pid, init.pidfd, init.start_time, given.cgroups, next(fds))
            init.gate = lambda: runtime.start(running)
        else:
            self._begin_clients()

    def _begin_clients(self) -> None:
        assert self._init
        for client, keys, already_read in self._waiting:
            self._init.streams.attach(client, keys, already_read=already_read)
        self._waiting.clear()

    def _supervise(self, process: Process, ends: dict[str, int], *, closes_stdin: bool) -> None:
        """Watch over a process's streams and its end, and let the keeper have duplicates."""
        log = self._log if process is self._init else None
        release = self._duplicates.release
        process.streams = Streams(
            self._loop, ends, log, lambda stream: release(process, stream), closes_stdin=closes_stdin
        )
        self._watch(process)

    def _watch(self, process: Process) -> None:
        self._loop.watch(process.pidfd, IN, lambda _events: self._ended(process))

    def _start_init(self, init: Process, gate: Callable[[], None]) -> None:
        """Execute a gated container's program."""
        self.change(phase="running", started_at_ns=clock_ns())
        self._loop.forget(init.pidfd)  # which is closed where it fails
        try:
            gate()
        except BaseException:
            self._dismiss_waiting()
            self._duplicates.release(init)
            init.streams.close()
            self._close_names()
            self._init = None
            self.change(phase="empty", pid=None, start_time=None, cgroups=(), started_at_ns=None)
            raise
        self._watch(init)
        self._begin_clients()

    def _drop(self, process: Process) -> None:
        """Let go of all that is held open for a process."""
        self._duplicates.release(process)
        process.close(self._loop)
        process.streams.close()

    def go(self, exec_id: str | None) -> None:
        """Execute the program of what was gated."""
        process = self.process(exec_id)
        gate, process.gate = process.gate, None
        if not gate:
            raise Conflict(f"container {self.id} is running already")
        if exec_id is None:
            self._start_init(process, gate)
        else:
            self._start_exec(process, gate)

    # -------------------------------------------------------------------------------------------- clients

    def attach(self, message: m.Attach, fds: list[int]) -> None:
        """Serve a client; before the program is executed it waits for that."""
        if not fds:
            raise InvalidInput("an attach needs the client's connection")
        if self.state.phase == "exited":
            raise Conflict(f"container {self.id} is not running")
        client = self._client(fds.pop(0), message.streams, message.websocket)
        if self._init and not self._init.gate:
            keys = message.detach_keys
            self._init.streams.attach(client, keys, already_read=message.already_read)
        else:
            self._waiting.append((client, message.detach_keys, message.already_read))

    def _client(self, fd: int, streams: frozenset[str], websocket: int) -> Client:
        return WebClient(self._loop, fd, streams, websocket) if websocket else Client(self._loop, fd, streams)

    def _dismiss_waiting(self) -> None:
        for client, _, _ in self._waiting:
            client.close()
        self._waiting.clear()

    # ---------------------------------------------------------------------------------------------- execs

    def execute(self, message: m.Exec, fds: list[int]) -> m.Launched:
        """Run another process in the container, with the restrictions that its plan carries.

        It is noted before its program is executed: a shim that is killed meanwhile leaves none that nobody knows.
        """
        init = self.process(None)
        if self.state.phase == "paused":
            raise Conflict(f"Container {self.id} is paused, unpause the container before exec")
        if message.exec_id in self._execs or message.exec_id in self._finished:
            raise Conflict(f"exec {message.exec_id} has run already")
        attached = len(fds) > message.kept
        ends, theirs = self._exec_ends(message, attached=attached)
        try:
            plan, size, kept = (
                decode(message.plan),
                message.console_size,
                runtime.Arrangement(kept=tuple(fds[attached:])),
            )
            running = runtime.exec_process(plan, init.pidfd, theirs, console_size=size, gated=True, arrangement=kept)
        except BaseException:
            close_all(ends.values())
            raise
        finally:
            close_all(theirs or ())
        if running.console is not None:
            ends = {"terminal": running.console}
        process = Process(message.exec_id, running.pid, running.pidfd, running.start_time)
        process.gate = lambda: runtime.start(running)
        self._execs[process.name] = process
        process.inodes = inodes_of(ends)
        self._duplicates.hold(process, ends)
        self._supervise(process, ends, closes_stdin=True)
        self.change()
        if not message.gated:
            self.go(process.name)
        if attached:
            client = Client(self._loop, fds.pop(0), message.streams)
            keys, greeting = message.detach_keys, message.greeting
            process.streams.attach(client, keys, greeting=greeting, already_read=message.already_read)
        return launched(running, None)

    def _exec_ends(self, message: m.Exec, *, attached: bool) -> tuple[dict[str, int], tuple[int, int, int] | None]:
        if message.tty:
            return {}, None
        if not attached:
            return nowhere()
        return pipes(stdin="stdin" in message.streams)

    def _start_exec(self, process: Process, gate: Callable[[], None]) -> None:
        self._loop.forget(process.pidfd)  # which is closed where it fails
        try:
            gate()
        except BaseException:
            process.streams.finish()
            process.streams.close()
            self._duplicates.release(process)
            del self._execs[process.name]
            self.change()
            raise
        self._watch(process)

    # -------------------------------------------------------------------------------------------- control

    def signal(self, message: m.Signal) -> None:
        """Send a signal to one process, or to all. Who wants it is noted before: a successor tells of the end."""
        process = self.process(message.exec_id)
        if message.sender and process is self._init:
            sent = Sent(number=message.number, at_ns=clock_ns(), sender=message.sender)
            self.change(sent=(*self.state.sent, sent)[-_REMEMBERED_SIGNALS:])
        if message.everyone:
            control.kill_everyone(self.cgroups(), message.number)
            return
        try:
            kernel.pidfd_send_signal(process.pidfd, message.number)
        except OSError as e:
            if e.errno != errno.ESRCH:
                raise
            raise Conflict(f"container {self.id} is not running") from None
        self._killed |= process is self._init and message.number == signal.SIGKILL

    def freeze(self, *, frozen: bool) -> None:
        """Pause or resume every process."""
        cgroups = self.cgroups()
        phase = "paused" if frozen else "running"
        if self.state.phase == phase:
            raise Conflict(f"Container {self.id} is {'already' if frozen else 'not'} paused")
        # In v1 a process that is frozen on its way to the end does not get there.
        if self.state.phase not in {"running", "paused"} or (frozen and self._killed):
            raise Conflict(f"Container {self.id} is not running")
        control.freeze(cgroups, frozen)
        self.change(phase=phase)

    # --------------------------------------------------------------------------------------------- names

    def answer_names(self, message: m.AnswerNames, fds: list[int]) -> None:
        """Answer names on the sockets that are given, or others on those that are there."""
        init = self.process(None)
        scope, names_ports = Scope.of(message), self.state.names_ports
        if sockets := take_sockets(fds):
            self._close_names()
            self._names, names_ports = Names(self._loop, scope, sockets, init.pidfd), ports(sockets)
        elif self._names:
            self._names.set(scope)
        else:
            raise InvalidInput("answering names needs two sockets")
        self.change(names=message, names_ports=names_ports)

    def _serve_names_again(self) -> None:
        """Bind what a killed shim had bound. While that can't be, the container has it: then try again."""
        if self._names or not self._init or not self.state.names:
            return
        if sockets := open_again(self.state.names_ports, self._init.pidfd):
            self._names = Names(self._loop, Scope.of(self.state.names), sockets, self._init.pidfd)
        else:
            self._loop.call_later(_BIND_AGAIN_S, self._serve_names_again)

    def _close_names(self) -> None:
        if self._names:
            self._names.close()
        self._names = None

    # ----------------------------------------------------------------------------------------------- ends

    def _ended(self, process: Process) -> None:
        """A pidfd is readable: the process is a zombie, or (adopted) has been reaped by its parent."""
        if process.is_child:
            status = process.peek()
            if status is None:
                return
        else:
            status = self._status_of_adopted(process)
            if status is None and not process.given_up:
                return
        if process is self._init:
            self._init_ended(process, status)
        else:
            self._exec_ended(process, status)

    def _status_of_adopted(self, process: Process) -> int | None:
        """Ask whoever may know, for a while: the keeper that reaped it, and the kernel."""
        status = self._collected.pop(process.pid, None)
        if status is None:
            status = kernel.pidfd_exit_status(process.pidfd)
        if status is None:
            status = process.told
        if status is None:
            self._loop.forget(process.pidfd)
            if process.ask_again():
                self._loop.call_later(0.02, lambda: self._ended(process))
        return status

    def collect(self, message: m.Collected) -> None:
        """Take note of a status that the keeper has seen; the pidfd says when it is needed."""
        self._collected[message.pid] = message.status

    def _exec_ended(self, process: Process, status: int | None) -> None:
        if self._execs.pop(process.name, None) is None:
            return
        process.streams.drain()
        code = exit_code(status)
        exited = m.ExecExited(exec_id=process.name, exit_code=137 if code is None else code, pid=process.pid)
        while len(self._finished) >= _FINISHED_EXECS:
            del self._finished[next(iter(self._finished))]
        self._finished[process.name] = m.ExecStatus(exec_id=process.name, pid=process.pid, exit_code=exited.exit_code)
        self.change()
        process.reap()
        self._tell(exited)  # before the client sees its end, and asks
        process.streams.finish()
        self._parting = [s for s in (*self._parting, process.streams) if s.clients]
        self._duplicates.release(process)
        process.close(self._loop)

    def _init_ended(self, init: Process, status: int | None) -> None:
        """Record the end before anything else is done about it, and tell it before the clean-up."""
        if not self._own_pid_namespace:
            control.kill_everyone(self.state.cgroups, signal.SIGKILL)
        for process in tuple(self._execs.values()):
            self._ended(process)
        init.streams.drain()
        exited = self._exited(status)
        self._init = None
        self.change(phase="exited", exited=exited)
        init.reap()
        self._tell(exited)
        self._close_names()
        init.streams.finish()
        self._parting.append(init.streams)
        self._drop(init)
        self._dismiss_waiting()
        self._loop.call_later(0, self.tear_down)

    def _exited(self, status: int | None) -> m.Exited:
        """Put together what is known of the end. An end that is none to wonder about costs one look."""
        code, (number, core_dumped) = exit_code(status), ended_by(status)
        cgroups, counts = self.state.cgroups, None
        try:
            oom_killed = control.oom_kills(cgroups) > 0
            if oom_killed or code:
                counts = counting.counts(cgroups)
        except OSError:
            oom_killed = False
        return m.Exited(
            exit_code=code,
            finished_at_ns=clock_ns(),
            oom_killed=oom_killed,
            signal=number,
            core_dumped=core_dumped,
            sent=self.state.sent,
            counts=counts,
        )

    def tear_down(self) -> None:
        """Remove the control groups, behind the answer: the kernel takes its time."""
        if not self._torn_down:
            runtime.delete(self.state.cgroups)
            self._torn_down = True

    # ------------------------------------------------------------------------------------------- adoption

    def adopt(self, state: facts.State, held: Mapping[str, Held], *, lost_output: bool) -> None:
        """Go on where a killed shim was. What `held` lacks (its keeper was killed too) is looked up in the kernel."""
        lost_output = lost_output or state.lost_output
        self._own_pid_namespace = state.own_pid_namespace
        self._record.adopt(msgspec.structs.replace(state, shim_pid=os.getpid(), lost_output=lost_output))
        self._finished = {e.exec_id: e for e in state.execs if e.exit_code is not None}
        if state.phase != "exited":
            self._log = logs.opened(self._loop, logs.plain(state.log))
        noted = {"", *(e.exec_id for e in state.execs)}
        for name, kept in held.items():
            # It was killed after the end was written, or before an exec was, whose program was not executed then.
            if state.exited or name in self._finished or name not in noted:
                kept.release(None)
                continue
            process = Process(name, kept.pid, kept.pidfd, kept.start_time)
            if kept.status is not None:
                self._collected[kept.pid] = kept.status
            self._adopt(process, kept.ends)
        for task in state.tasks:
            process_found = None if task.name in held else find(task)
            if process_found:
                self._adopt(process_found, dict(reopen(task.pid, task.streams)))
        if self._init:
            self._serve_names_again()
            self.change(phase=self._present_phase())
        else:
            self._bury()

    def _present_phase(self) -> str:
        """Ask the kernel: the shim may have been killed between freezing, or thawing, and writing it down."""
        if self.state.phase not in {"running", "paused"}:
            return self.state.phase
        try:
            return "paused" if control.frozen(self.state.cgroups) else "running"
        except OSError:  # its groups have gone, and its end is next
            return self.state.phase

    def _adopt(self, process: Process, ends: dict[str, int]) -> None:
        process.is_child = False
        process.be_told(self._loop)
        process.inodes = inodes_of(ends)
        self._duplicates.hold(process, ends)
        if process.name:
            self._execs[process.name] = process
        else:
            self._init = process
        self._supervise(process, ends, closes_stdin=self.state.stdin_once or bool(process.name))
        process.streams.end_input()  # whoever typed was connected to the killed shim

    def _bury(self) -> None:
        """The init has ended while nobody looked."""
        state = facts.dead(self.state, self.state.exited or self._exited(None))
        self._finished = {e.exec_id: e for e in state.execs if e.exec_id not in self._execs}
        self._record.adopt(state)
        self.change()
        self._loop.call_later(0, self.tear_down)
