"""The keeper: one thread, small, the ancestor of everything that an instance runs.

It holds the listening socket, keeps a server behind it, and forks shims and workers: a start costs a fork instead of an
interpreter's start, because `kernel`, `spec` and `runtime` are imported here. It is the subreaper: processes whose shim
was killed become its children. It holds duplicates of their streams, forks another shim that goes on, and hands it the
exit statuses of those that it reaps itself.

    python -m sampan.supervise.keeper --root ROOT [--foreground]    begins with its other half, sampan.supervise.origin
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from sampan import dirs as paths
from sampan.errors import Failed
from sampan.kernel import process as kernel
from sampan.supervise import launcher, messages as m, origin, parking, shim, state as facts, worker
from sampan.supervise.loop import IN, Channel, Loop
from sampan.supervise.nursery import Spare, Spares, be
from sampan.supervise.process import Held
from sampan.supervise.stderr import use_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.dirs import Dirs

_QUICK_DEATH_S = 2.0
_FIRST_PAUSE_S = 0.1
_QUICK_DEATHS = 7
_REPLACEMENTS = 5
_REPLACEMENTS_S = 10.0
_SERVER_STOP_S = 10.0
_LAST_CHILDREN_S = 3.0
_LAST_WORKERS_S = 10.0


class Shim:
    """The keeper's record of one: forked by it, or found again by its socket."""

    def __init__(self, id: str, pid: int, *, is_child: bool) -> None:
        self.id = id
        self.pid = pid
        self.is_child = is_child
        self.channel: Channel | None = None
        self.held: dict[str, Held] = {}
        self.status: int | None = None

    def hold(self, message: m.Hold, descriptors: Sequence[int]) -> None:
        """Keep duplicates of what a process has open."""
        pidfd, *ends = descriptors
        held = Held(message.pid, message.start_time, pidfd, dict(zip(message.streams, ends, strict=True)))
        self.release(message.name, None)
        self.held[message.name] = held

    def release(self, name: str, stream: str | None) -> None:
        """Close a stream's duplicate, or all of a process."""
        held = self.held.get(name)
        if held:
            held.release(stream)
            if stream is None:
                del self.held[name]

    def release_all(self) -> None:
        """Close everything."""
        for name in tuple(self.held):
            self.release(name, None)


class Server:
    """The keeper's record of the server."""

    def __init__(self, channel: Channel, pid: int, *, is_child: bool) -> None:
        self.channel = channel
        self.pid = pid
        self.pidfd = kernel.pidfd_open(pid)
        self.is_child = is_child  # else it was there before this keeper
        self.started = time.monotonic()

    def signal(self, number: int) -> None:
        """Send it a signal, if it still lives."""
        try:
            kernel.pidfd_send_signal(self.pidfd, number)
        except OSError as e:
            if e.errno != errno.ESRCH:
                raise

    def close(self) -> None:
        """Let go of one that is dead, or has let go of us: two servers must not be."""
        self.signal(signal.SIGKILL)
        self.channel.close()
        os.close(self.pidfd)


class _Wanted(NamedTuple):
    """A request for a shim."""

    id: str
    first: int  # its first channel
    channel: Channel
    seq: int


class Keeper:
    """One instance's."""

    def __init__(self, dirs: Dirs, options: origin.Options) -> None:
        assert options.listen_fd is not None
        self._dirs = dirs
        self._options = options
        self._group = origin.group_name(dirs)  # now: its root may be removed while it runs
        self._loop = Loop()
        self._listening = socket.socket(fileno=options.listen_fd)
        self._server: Server | None = None
        self._shims: dict[str, Shim] = {}
        self._spares = Spares(self._loop, dirs.shims)
        self._deaths = 0
        self._replaced: dict[str, list[float]] = {}
        self._workers: set[int] = set()
        self._next: Callable[[], None] = self._server_died
        self._signals, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        self._loop.watch(self._signals, IN, self._signalled)

    def run(self) -> None:
        """Find what runs, start a server unless there is one, and serve until it is time to leave."""
        self._spares.open()
        for id in facts.ids(self._dirs):
            self._find(id)
        if self._options.server_fd is not None:
            self._take_server(socket.socket(fileno=self._options.server_fd))
        else:
            self._start_server()
        self._reap()
        self._loop.run()

    # ------------------------------------------------------------------------------------------------- server

    def _take_server(self, sock: socket.socket) -> None:
        """Go on with the server that has started this keeper; with another where it was killed meanwhile."""
        channel = self._server_channel(sock)
        try:
            self._server = Server(channel, _peer(sock)[1], is_child=False)
        except OSError as e:
            if e.errno != errno.ESRCH:
                raise
            channel.close()  # what it has asked for is of a server that is no more
            self._server_died()
            return
        self._loop.watch(self._server.pidfd, IN, lambda _events: self._server_ended())

    def _server_channel(self, sock: socket.socket) -> Channel:
        return Channel(self._loop, sock, self._asked, self._server_gone)

    def _start_server(self) -> None:
        ours, theirs = socket.socketpair()
        listen_fd, keeper_fd = self._listening.fileno(), theirs.fileno()
        program = [self._options.server] if "/" in self._options.server else ["-m", self._options.server]
        argv = [sys.executable, "-P", *program, "--root", self._dirs.root]
        argv += ["--listen-fd", str(listen_fd), "--keeper-fd", str(keeper_fd)]
        passed = [listen_fd, keeper_fd]
        if self._options.host_fd is not None:  # a server of before has started this keeper
            argv += ["--host-fd", str(self._options.host_fd)]
            passed.append(self._options.host_fd)
        for fd in passed:
            os.set_inheritable(fd, True)
        pid = os.posix_spawn(
            sys.executable, argv, os.environ, setsigdef=(signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
        )
        for fd in passed:
            os.set_inheritable(fd, False)
        theirs.close()
        self._next = self._server_died
        self._server = Server(self._server_channel(ours), pid, is_child=True)

    def _server_gone(self, _channel: Channel) -> None:
        """Its end of the channel is closed. That of a child's is reaped as well, and only then succeeded."""
        if self._server and not self._server.is_child:
            self._server_ended()

    def _server_ended(self) -> None:
        server, self._server = self._server, None
        if server:
            self._loop.forget(server.pidfd)
            if time.monotonic() - server.started > _QUICK_DEATH_S:
                self._deaths = 0
            server.close()
        self._next()

    def _server_died(self) -> None:
        """Start another at once; one that dies again and again, after a pause that doubles, and at last not at all."""
        self._deaths += 1
        if self._deaths >= _QUICK_DEATHS:
            print(f"sampan: the server has died {self._deaths} times in a row: giving up", file=sys.stderr)
            self._end()
        elif self._deaths == 1:
            self._start_server()
        else:
            self._loop.call_later(_FIRST_PAUSE_S * 2 ** (self._deaths - 2), self._start_server)

    def _asked(self, channel: Channel, frame: m.Frame) -> None:
        """Answer the server."""
        message = frame.message
        descriptors = list(frame.fds)
        answer: m.Message | None = m.Done()
        try:
            match message:
                case m.ForkShim():
                    wanted = _Wanted(message.id, descriptors.pop(), channel, frame.seq)
                    self._spares.take(lambda spare: self._become(wanted, spare))
                    answer = None
                case m.ForkWorker():
                    answer = m.Forked(pid=self._fork_worker(descriptors.pop()))
                case m.Leave():
                    self._next = self._hold_socket if message.hold else self._leave
                case m.Restart():
                    self._restart()
                case _:
                    answer = m.Refused(error="InvalidInput", message=f"a keeper can't do {type(message).__name__}")
        except Exception as e:
            sys.excepthook(*sys.exc_info())
            answer = m.Refused(error="Failed", message=f"the keeper failed: {e}")
        finally:
            for fd in descriptors:
                os.close(fd)
        if frame.seq and answer:
            channel.send(answer, frame.seq)

    def _restart(self) -> None:
        """End the server, and execute this program anew in this process: both may have been upgraded, the shims stay.

        As the process stays, it stays the parent of its shims, which give it the duplicates again.
        """
        self._next = self._execute_again
        self._stop_server()

    def _stop_server(self) -> None:
        server = self._server
        if server is None:
            self._next()
            return
        server.signal(signal.SIGTERM)

        def kill() -> None:
            if self._server is server:
                server.signal(signal.SIGKILL)

        self._loop.call_later(_SERVER_STOP_S, kill)

    def _execute_again(self) -> None:
        self._options.listen_fd = self._listening.fileno()
        self._options.server_fd = None
        for shim_ in self._shims.values():
            if shim_.channel:
                shim_.channel.sock.detach()
        origin.become(self._dirs, self._options)

    # ------------------------------------------------------------------------------------------------ leaving

    def _hold_socket(self) -> None:
        """Nothing runs: wait for a connection, then start a server."""

        def connected(_events: int) -> None:
            self._loop.forget(self._listening.fileno())
            self._start_server()

        self._deaths = 0
        self._loop.watch(self._listening.fileno(), IN, connected)

    def _leave(self) -> None:
        """Nothing runs: end too, unless somebody has just connected."""
        aside = f"{self._dirs.socket}.closing"
        try:
            os.rename(self._dirs.socket, aside)  # from here on nobody new connects
        except FileNotFoundError:
            pass
        ready, _, _ = select.select([self._listening], [], [], 0)
        if ready:
            os.rename(aside, self._dirs.socket)
            self._start_server()
        else:
            self._end()

    def _end(self) -> None:
        """Leave the containers running, if any: their shims don't need a keeper."""
        for path in (self._dirs.socket, f"{self._dirs.socket}.closing"):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
        self._dismiss()
        origin.remove_cgroups(self._group)
        self._loop.stop()

    def _dismiss(self) -> None:
        """Let the children go that nobody needs any more, and wait for them: they are in our control group."""
        leaving = self._spares.close()
        forgotten = (s for s in self._shims.values() if s.is_child and not os.path.exists(self._dirs.shim(s.id)))
        leaving.update(s.pid for s in forgotten)
        patience_s = _LAST_WORKERS_S if self._workers else _LAST_CHILDREN_S
        leaving |= self._workers
        parking.end_all(self._dirs.tmp, _LAST_WORKERS_S)
        deadline = time.monotonic() + patience_s
        while leaving and time.monotonic() < deadline:
            for pid in tuple(leaving):
                try:
                    if os.waitpid(pid, os.WNOHANG)[0]:
                        leaving.discard(pid)
                except ChildProcessError:
                    leaving.discard(pid)
            time.sleep(0.002)

    # ------------------------------------------------------------------------------------------------ signals

    def _signalled(self, _events: int) -> None:
        try:
            numbers = os.read(self._signals, 4096)
        except BlockingIOError:
            return
        if {signal.SIGTERM, signal.SIGINT} & set(numbers):
            self._next = self._end
            self._stop_server()
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._reaped(pid, status)

    def _reaped(self, pid: int, status: int) -> None:
        if self._server and pid == self._server.pid:
            self._server_ended()
            return
        if pid in self._workers:
            self._workers.discard(pid)
            return
        if self._spares.reaped(pid):
            return
        for shim_ in tuple(self._shims.values()):
            if pid == shim_.pid:
                shim_.status = status
                if shim_.channel is None or shim_.channel.ended:
                    self._shim_gone(shim_)
                return
            for held in shim_.held.values():
                if pid == held.pid:
                    held.status = status
                    if shim_.channel:
                        shim_.channel.send(m.Collected(pid=pid, status=status))
                    return

    # -------------------------------------------------------------------------------------------------- shims

    def _become(self, wanted: _Wanted, spare: Spare | None) -> None:
        """Let a shim that was forked ahead become the one that is wanted, whose first channel ends where that fails."""
        try:
            if spare is None:
                raise Failed("the keeper can't make a shim: its new processes end at once", "is there a limit on pids?")
            os.makedirs(self._dirs.shim(wanted.id), 0o700, exist_ok=True)
            pid, sock = spare
            record = self._shims[wanted.id] = Shim(wanted.id, pid, is_child=True)
            self._talk_to(record, sock).send(m.Become(id=wanted.id), fds=(wanted.first,))
        except (Failed, OSError) as e:
            answer: m.Message = launcher.refusal(e)
        else:
            answer = m.Forked(pid=pid)
        os.close(wanted.first)
        wanted.channel.send(answer, wanted.seq)

    def _fork_successor(self, id: str, left: shim.TakeOver) -> int:
        """Fork a shim in the place of a killed one, from this process: it holds what the shim goes on with."""
        directory = self._dirs.shim(id)
        ours, theirs = socket.socketpair()
        kept = [theirs.fileno()]
        for held in left.held.values():
            kept += held.fds()
        pid = os.fork()
        if pid == 0:
            be("sampan-shim", kept, lambda: shim.take_over(id, directory, theirs, left))
        theirs.close()
        record = self._shims[id] = Shim(id, pid, is_child=True)
        record.held = left.held
        self._talk_to(record, ours)
        return pid

    def _talk_to(self, record: Shim, sock: socket.socket) -> Channel:
        def told(_channel: Channel, frame: m.Frame) -> None:
            match frame.message:
                case m.Hold():
                    record.hold(frame.message, frame.fds)
                case m.Release():
                    record.release(frame.message.name, frame.message.stream)
                case _:
                    for fd in frame.fds:
                        os.close(fd)

        def ended(_channel: Channel) -> None:
            if record.status is not None or not record.is_child:
                self._shim_gone(record)

        record.channel = Channel(self._loop, sock, told, ended)
        return record.channel

    def _shim_gone(self, record: Shim) -> None:
        """Put another in its place, unless the container is forgotten or had not begun."""
        if self._shims.get(record.id) is not record:
            return
        del self._shims[record.id]
        state = facts.read(self._dirs.shim(record.id))
        successor = None
        if state and (state.phase != "empty" or record.held) and self._may_replace(record.id):
            successor = self._fork_successor(record.id, shim.TakeOver(state, record.held, lost_output=False))
        else:
            self._replaced.pop(record.id, None)
            record.release_all()
            if state is None or state.phase == "empty":
                facts.remove(self._dirs.shim(record.id))
        self._tell_reaped(record.id, record.pid, -1 if record.status is None else record.status, successor)

    def _may_replace(self, id: str) -> bool:
        now = time.monotonic()
        times = [t for t in self._replaced.get(id, ()) if now - t < _REPLACEMENTS_S]
        self._replaced[id] = [*times, now]
        if len(times) < _REPLACEMENTS:
            return True
        print(f"sampan: the shim of {id} has died {len(times)} times in a row: giving up", file=sys.stderr)
        return False

    def _tell_reaped(self, id: str, pid: int, status: int, successor: int | None) -> None:
        if self._server:
            self._server.channel.send(m.Reaped(id=id, pid=pid, status=status, replaced_by=successor))

    def _find(self, id: str) -> None:
        """Connect to a shim that an earlier keeper has forked, or fork another for its container."""
        directory = self._dirs.shim(id)
        state = facts.read(directory)
        sock = facts.connect(directory, facts.SOCKET)
        if sock:
            record = Shim(id, _peer(sock)[1], is_child=False)
            self._shims[id] = record
            self._talk_to(record, sock).send(m.Keep(), 1)
        elif state and state.phase != "empty":
            successor = self._fork_successor(id, shim.TakeOver(state, {}, lost_output=state.phase != "exited"))
            self._tell_reaped(id, state.shim_pid, -1, successor)
        else:
            facts.remove(directory)

    # ------------------------------------------------------------------------------------------------ workers

    def _fork_worker(self, fd: int) -> int:
        worker.prepare()
        pid = os.fork()
        if pid == 0:
            be("sampan-worker", [fd], lambda: worker.run(socket.socket(fileno=fd)))
        os.close(fd)
        self._workers.add(pid)
        return pid


def _peer(sock: socket.socket) -> tuple[int, int, int]:
    """Return who is at a socket's other end: (uid, pid, gid)."""
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid, pid, gid


def main() -> int:
    """Be the keeper: the second half, executed by `origin.become`."""
    use_log()
    options = origin.Options(sys.argv[1:])
    dirs = paths.find(options.root)
    kernel.set_name("sampan-keeper")
    kernel.set_dumpable(False)
    kernel.set_child_subreaper()
    for fd in options.fds():
        os.set_inheritable(fd, False)
    gc.collect()
    gc.freeze()  # forked children share the pages only as long as nobody writes to them; gc writes to all
    Keeper(dirs, options).run()
    return 0


if __name__ == "__main__":
    sys.exit(origin.main())
