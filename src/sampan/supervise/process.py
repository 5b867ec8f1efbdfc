"""A supervised process: the container's init, or an exec; a child of this shim, or adopted from one that was killed."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from sampan.kernel import proc_events, process as kernel
from sampan.supervise.loop import IN
from sampan.supervise.messages import Hold, Release
from sampan.supervise.state import Task

if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Mapping, Sequence

    from sampan.supervise.loop import Channel, Loop
    from sampan.supervise.streams import Streams

_ASK_TIMES = 100
_LAST_EVENT_TIMES = 5  # the kernel tells of the last thread right behind making the pidfd readable
_CORE_DUMPED = 0x80
_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}


class Held:
    """What the keeper holds of a process: its pidfd, duplicates of its streams, and its status if it reaped it."""

    def __init__(self, pid: int, start_time: int, pidfd: int, ends: dict[str, int]) -> None:
        self.pid = pid
        self.start_time = start_time
        self.pidfd = pidfd
        self.ends = ends
        self.status: int | None = None

    def fds(self) -> list[int]:
        """All that is held open."""
        return [self.pidfd, *self.ends.values()]

    def release(self, stream: str | None) -> None:
        """Close one stream's duplicate, or everything."""
        if stream is None:
            for fd in self.fds():
                os.close(fd)
            self.ends = {}
        elif stream in self.ends:
            os.close(self.ends.pop(stream))


class Process:
    """One that runs. While its program waits for `Go`, `gate` is what lets it be executed."""

    streams: Streams

    def __init__(self, name: str, pid: int, pidfd: int, start_time: int) -> None:
        self.name = name
        self.pid = pid
        self.pidfd = pidfd
        self.start_time = start_time
        self.gate: Callable[[], None] | None = None
        self.inodes: tuple[tuple[str, int], ...] = ()
        self.is_child = True
        self.dropped = False
        self._asked = 0
        self._exits: _socket.socket | None = None
        self._told: int | None = None

    def task(self) -> Task:
        """Return what state.json says of it."""
        return Task(name=self.name, pid=self.pid, start_time=self.start_time, streams=self.inodes)

    def peek(self) -> int | None:
        """Return a child's wait status, None while it runs. It stays a zombie: a shim killed now has lost nothing."""
        return _wait(self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def reap(self) -> None:
        """Let the kernel forget a child that has ended."""
        if self.is_child:
            _wait(self.pidfd, os.WEXITED | os.WNOHANG)

    def be_told(self, loop: Loop) -> None:
        """Have the kernel tell how it ends, where it can: an adopted one's parent may be who tells us nothing."""
        try:
            exits = self._exits = proc_events.listen_to_exits(self.pid)
        except OSError:
            return

        def heard(_events: int) -> None:
            status = proc_events.last_status(exits)
            self._told = self._told if status is None else status

        loop.watch(exits.fileno(), IN, heard)

    @property
    def told(self) -> int | None:
        """The status that the kernel has told, once its last thread's must have come."""
        return self._told if self._asked >= _LAST_EVENT_TIMES else None

    def close(self, loop: Loop) -> None:
        """Let go of it."""
        loop.forget(self.pidfd)
        os.close(self.pidfd)
        if self._exits:
            loop.forget(self._exits.fileno())
            proc_events.close(self._exits)

    def ask_again(self) -> bool:
        """Count the times that nobody knew an adopted process's status; False when it is no use any more."""
        self._asked += 1
        return not self.given_up

    @property
    def given_up(self) -> bool:
        """Whether the status can't be known."""
        return self._asked > _ASK_TIMES


class Duplicates:
    """What the keeper holds too. `channel` leads to it, and is None while there is none."""

    def __init__(self) -> None:
        self.channel: Channel | None = None

    def hold(self, process: Process, ends: Mapping[str, int]) -> None:
        """Let the keeper have the pidfd and our ends of the streams."""
        if self.channel:
            hold = Hold(name=process.name, pid=process.pid, start_time=process.start_time, streams=tuple(ends))
            self.channel.send(hold, fds=(process.pidfd, *ends.values()))

    def release(self, process: Process, stream: str | None = None) -> None:
        """Let it close one stream, or all of the process."""
        if self.channel and not process.dropped:
            self.channel.send(Release(name=process.name, stream=stream))
        if stream is None:
            process.dropped = True


def _wait(pidfd: int, options: int) -> int | None:
    try:
        info = os.waitid(os.P_PIDFD, pidfd, options)
    except ChildProcessError:
        return None
    if info is None:
        return None
    # Back to the form of waitpid(2), which every other source of a status has.
    if info.si_code == os.CLD_EXITED:
        return info.si_status << 8
    return info.si_status | (_CORE_DUMPED if info.si_code == os.CLD_DUMPED else 0)


def exit_code(status: int | None) -> int | None:
    """Return Docker's exit code for a status of waitpid(2): the program's own, or 128 + the signal."""
    if status is None:
        return None
    code = os.waitstatus_to_exitcode(status & ~_CORE_DUMPED)
    return code if code >= 0 else 128 - code


def ended_by(status: int | None) -> tuple[int, bool]:
    """Return the signal that ended a process, 0 for none, and whether its memory was dumped."""
    if status is None or not os.WIFSIGNALED(status):
        return 0, False
    return os.WTERMSIG(status), os.WCOREDUMP(status)


def clock_ns() -> int:
    """Return the wall clock's time."""
    return time.time_ns()


def inodes_of(ends: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Return by which inode each pipe is known again; 0 for a terminal."""
    return tuple((name, 0 if name == "terminal" else os.fstat(fd).st_ino) for name, fd in ends.items())


def find(task: Task) -> Process | None:
    """Open a process that neither shim nor keeper holds any more; None if it has ended, or its pid is another's."""
    try:
        pidfd = kernel.pidfd_open(task.pid)
    except OSError:
        return None
    try:
        if kernel.start_time(task.pid) == task.start_time:
            return Process(task.name, task.pid, pidfd, task.start_time)
    except OSError:
        pass
    os.close(pidfd)
    return None


def reopen(pid: int, streams: Sequence[tuple[str, int]]) -> Mapping[str, int]:
    """Open the other ends of a process's pipes again, through its own ends; a terminal can't be.

    Only where the descriptor still is the pipe of the recorded inode: the container decides what its links point to.
    """
    ends = {}
    for stream, inode in streams:
        path = f"/proc/{pid}/fd/{_NUMBERS.get(stream, -1)}"
        try:
            found = os.stat(path)
            if inode and stat.S_ISFIFO(found.st_mode) and found.st_ino == inode:
                mode = os.O_WRONLY if stream == "stdin" else os.O_RDONLY
                ends[stream] = os.open(path, mode | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
    return ends
