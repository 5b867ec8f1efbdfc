"""Timing: each contender's commands are started by a process of its own, in the contender's cpuacct group."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

CPUACCT, CPU = Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup/cpu")
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 1 << 18


class Turn(NamedTuple):
    """One run: wall milliseconds, what it exited with, and what it complained of."""

    wall_ms: float
    code: int
    complaint: str


class Runner:
    """A small process that starts commands one at a time and times them from spawn to exit."""

    def __init__(
        self, group: str, env: Mapping[str, str], *, cover_unified: Path | None = None, cwd: Path | None = None
    ) -> None:
        self.group = CPUACCT / group
        for directory in (self.group, CPU / group):
            directory.mkdir(exist_ok=True)
        self._ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            self._ours.close()
            self._serve(theirs, env, cover_unified, cwd)
        theirs.close()
        self._answers = self._ours.makefile("r")

    def _serve(
        self, channel: socket.socket, env: Mapping[str, str], cover_unified: Path | None, cwd: Path | None
    ) -> None:
        self.adopt(os.getpid())
        if cwd:
            os.chdir(cwd)
        if cover_unified:
            # crun 1.8 refuses a v1 layout that has a unified hierarchy too: hide it from crun alone.
            libc = ctypes.CDLL(None)
            libc.unshare(CLONE_NEWNS)
            libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
            libc.mount(bytes(cover_unified), b"/sys/fs/cgroup/unified", None, MS_BIND, None)
        null, said = os.open("/dev/null", os.O_RDWR), os.memfd_create("said")
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((null, null, said))]
        settings = {**os.environ, **env}
        for line in channel.makefile("r"):
            if not (command := json.loads(line)):
                break
            begin = time.perf_counter_ns()
            pid = os.posix_spawnp(command[0], command, settings, file_actions=actions)
            _, status = os.waitpid(pid, 0)
            wall = (time.perf_counter_ns() - begin) / 1e6
            complaint = os.pread(said, 4096, 0).decode(errors="replace") if status else ""
            os.truncate(said, 0)
            os.lseek(said, 0, os.SEEK_SET)
            channel.sendall(f"{json.dumps([wall, os.waitstatus_to_exitcode(status), complaint])}\n".encode())
        os._exit(0)

    def adopt(self, pid: int) -> None:
        """Have a process, and what it forks, counted as the contender's, and share the contender's processor time.

        In one group each they are treated alike by a busy machine, however many processes they are: sampan's would be
        in a group of their own in any case, and other processes are not.
        """
        for directory in (self.group, CPU / self.group.name):
            (directory / "cgroup.procs").write_text(str(pid))

    def __call__(self, *command: str | Path) -> Turn:
        self._ours.sendall(f"{json.dumps([str(word) for word in command])}\n".encode())
        turn = Turn(*json.loads(self._answers.readline()))
        if turn.code:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit code {turn.code}: {turn.complaint}")
        return turn

    def end(self) -> None:
        # Not by closing: runners forked later hold this end too.
        self._ours.sendall(b"[]\n")
        self._answers.close()
        self._ours.close()
        os.waitpid(self.pid, 0)


class Series(NamedTuple):
    """What a contender needed for one kind of work: medians a turn."""

    wall_ms: float
    least_ms: float
    cpu_ms: float


def interleave(turns: int, contenders: Mapping[str, tuple[Callable[[], float], Sequence[Path]]]) -> dict[str, Series]:
    """Let each take its turn, `turns` times after one that doesn't count; CPU is that of its cpuacct groups."""
    walls: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(turns + 1):
        for name, (work, groups) in contenders.items():
            before = cpu_ms(groups)
            wall = work()
            # What is put off until after the answer (removals) belongs to the turn.
            time.sleep(0.05)
            if number:
                walls[name].append(wall)
                cpu[name].append(cpu_ms(groups) - before)
    return {
        name: Series(statistics.median(walls[name]), min(walls[name]), statistics.median(cpu[name]))
        for name in contenders
    }


def cpu_ms(groups: Sequence[Path]) -> float:
    """CPU time of these groups and all below them, those gone included."""
    return sum(int((group / "cpuacct.usage").read_text()) for group in groups if group.exists()) / 1e6


def enter_network(pid: int) -> None:
    """Go into the network namespace of another process, for good."""
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0):
        raise OSError(ctypes.get_errno(), f"setns of {pid}")
    os.close(fd)


def pss_kib(pid: int) -> int:
    """Proportional set size: shared pages are divided among those who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
