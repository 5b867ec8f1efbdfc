"""What the kernel wrote down of processes that it killed: its log is read when a container has ended like that.

Containers' programs choose what they are called, and anybody who may write to /dev/kmsg writes what he likes: what is
read here is shown, and nothing is decided by it. Records of users are told from the kernel's by their facility.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from sampan.kernel import kmsg
from sampan.spec.ending import Crash, Forbidden, OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_KEPT = 256
_CLOCKS_DIFFER_US = 5_000_000


class Victim(NamedTuple):
    """A line `oom-kill:`; `group` is the victim's control group."""

    pid: int
    program: str
    group: str
    host: bool


class Killed(NamedTuple):
    """A line `Killed process`, which comes behind `oom-kill:`, and alone where those come too often."""

    pid: int
    program: str
    resident: int
    host: bool


class Refused(NamedTuple):
    """An audit record of seccomp."""

    pid: int
    program: str
    number: int
    architecture: int


Record = Victim | Killed | Refused | Crash

# kernel: mm/oom_kill.c, dump_oom_victim and __oom_kill_process; kernel/auditsc.c, audit_seccomp; arch/*/mm/fault.c
_VICTIM = re.compile(r"oom-kill:constraint=(\w+),.*,task_memcg=(.*),task=(.*),pid=(\d+),uid=\d+$")
_KILLED = re.compile(
    r"(Memory cgroup out|Out) of memory: Killed process (\d+) \((.*)\) total-vm:\d+kB, anon-rss:(\d+)kB, "
    r"file-rss:(\d+)kB, shmem-rss:(\d+)kB"
)
_REFUSED = re.compile(
    r'type=1326 audit\(.*?\): .* pid=(\d+) comm=("[^"]*"|(?:[0-9A-F]{2})+) .*sig=31 arch=([0-9a-f]+) syscall=(-?\d+) '
)
_CRASH = re.compile(r"(?:traps: )?(\S.*)\[(\d+)\]:? ((?:segfault at|trap |general protection|bad frame|unhandled ).*)$")


def parse(record: bytes) -> tuple[int, Record] | None:
    """Read one record of /dev/kmsg, and its microseconds since boot; None where it is not about a killed process."""
    head, _, text = record.partition(b";")
    fields = head.split(b",")
    if len(fields) < 3 or not fields[0].isdigit() or not fields[2].isdigit() or int(fields[0]) >> 3:
        return None  # facility 0 is the kernel's
    found = _parse_line(text.partition(b"\n")[0].decode("utf-8", "replace"))
    return (int(fields[2]), found) if found else None


def _parse_line(line: str) -> Record | None:
    if found := _VICTIM.search(line):
        constraint, group, program, pid = found.groups()
        return Victim(int(pid), program, group, constraint != "CONSTRAINT_MEMCG")
    if found := _KILLED.search(line):
        which, pid, program, *pages = found.groups()
        return Killed(int(pid), program, 1024 * sum(map(int, pages)), which == "Out")
    if found := _REFUSED.search(line):
        pid, program, architecture, number = found.groups()
        return Refused(int(pid), _comm(program), int(number), int(architecture, 16))
    if found := _CRASH.match(line):
        program, pid, said = found.groups()
        return Crash(pid=int(pid), program=program, said=said.partition(" likely on CPU")[0])
    return None


def _comm(text: str) -> str:
    """Read a name as audit writes it: quoted, or in hexadecimal where a character is unusual."""
    return text[1:-1] if text.startswith('"') else bytes.fromhex(text).decode("utf-8", "replace")


class KernelLog:
    """The latest records of killed processes. Any thread may ask; what was read once is not read again."""

    def __init__(self, open_log: Callable[[], int] = kmsg.open_log) -> None:
        self._open = open_log
        self._lock = threading.Lock()
        self._fd = -1
        self._kept: deque[tuple[int, Record]] = deque(maxlen=_KEPT)

    def records(self, since_ns: int) -> tuple[Record, ...]:
        """Return those since a moment, oldest first; none where this process may not read the log.

        A pid may have been another process's before.
        """
        since_us = (since_ns - time.time_ns() + time.monotonic_ns()) // 1000 - _CLOCKS_DIFFER_US
        with self._lock:
            try:
                if self._fd < 0:
                    self._fd = self._open()
                self._kept.extend(dated for raw in kmsg.records(self._fd) if (dated := parse(raw)))
            except OSError:  # a host without it, or one that doesn't let us
                pass
            return tuple(record for at_us, record in self._kept if at_us >= since_us)

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1


def out_of_memory(records: Iterable[Record], id: str, pid: int) -> tuple[OutOfMemory, ...]:
    """Return the victims in the container `id`, whose first process was `pid`."""
    resident: dict[int, int] = {}
    found: dict[int, OutOfMemory] = {}
    for record in records:
        match record:
            case Victim() if id in record.group:
                found[record.pid] = OutOfMemory(pid=record.pid, program=record.program, host=record.host)
            case Killed():
                resident[record.pid] = record.resident
                if record.pid == pid:
                    found.setdefault(pid, OutOfMemory(pid=pid, program=record.program, host=record.host))
            case _:
                pass
    return tuple(
        OutOfMemory(pid=v.pid, program=v.program, host=v.host, resident=resident.get(v.pid, 0)) for v in found.values()
    )


def forbidden(records: Iterable[Record], pid: int) -> tuple[Forbidden, ...]:
    """Return what the process `pid`, or the last of all for 0, was killed for by its seccomp filter."""
    from sampan.kernel.libseccomp import syscall_name

    return tuple(
        Forbidden(pid=r.pid, program=r.program, syscall=syscall_name(r.number, r.architecture) or f"#{r.number}")
        for r in records
        if isinstance(r, Refused) and pid in (0, r.pid)
    )[-1:]


def crashes(records: Iterable[Record], pid: int) -> tuple[Crash, ...]:
    """Return the crash of the process `pid`, or for 0 the last of all."""
    return tuple(record for record in records if isinstance(record, Crash) and pid in (0, record.pid))[-1:]
