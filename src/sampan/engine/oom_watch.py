"""Telling when the kernel kills a process of a container for memory, also where the container runs on.

The kernel's log is waited on: it costs the containers and their shims nothing, and names the process. It names the
control group too, but of ten kills in 5 s at most (mm/oom_kill.c, oom_kill_process): of the others `oom_shares` says
whose they are, by what the groups have counted. On some hosts the log may not be read: what was not told by then is
told at the container's end.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
from typing import TYPE_CHECKING

import msgspec

from sampan.engine import endings, remains
from sampan.engine.kernel_log import Killed, Victim, parse
from sampan.engine.oom_shares import Shares
from sampan.kernel import kmsg
from sampan.runtime import control
from sampan.runtime.counting import counts
from sampan.spec.ending import OutOfMemory

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.ending import Counts, Ending

_REMEMBERED = 256  # victims of one container: it may go on for months, making new ones
_ID = re.compile(r"[0-9a-f]{64}")


class OomWatch:
    """A thread, who was killed, and who of them was told of. No event is told twice."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._found: dict[str, dict[int, OutOfMemory]] = {}  # by container and pid, oldest first
        self._told: dict[str, set[int]] = {}
        self._reading = threading.Lock()  # held while records are read and shared out
        self._shares = Shares({c.id: self._kills(c.id) for c in core.registry if c.running})
        self._named = 0  # the pid of the last victim whose group was named
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            self._log = kmsg.open_log()
            os.lseek(self._log, 0, os.SEEK_END)
        except OSError:  # a host without it, or one that doesn't let us
            self._log = -1
        self._thread = threading.Thread(target=self._run, name="oom-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        os.eventfd_write(self._wake, 1)
        self._thread.join(10)
        os.close(self._wake)
        with self._reading:
            if self._log >= 0:
                os.close(self._log)
            self._log = -1

    def completed(self, container: Container, ending: Ending) -> Ending:
        """Add to the end of a container, whose state says that it runs, the victims that were found while it did."""
        if not ending.counts or not ending.counts.oom_kills:
            return ending
        with contextlib.suppress(OSError):  # a log that can't be read any more
            self._read({container.id: ending.counts.oom_kills})
        with self._lock:
            victims = dict(self._found.get(container.id, {}))
        victims.update((victim.pid, victim) for victim in ending.out_of_memory)
        return msgspec.structs.replace(ending, out_of_memory=tuple(victims.values()))

    def ended(self, container: Container, ending: Ending, *, oom_killed: bool) -> None:
        """Tell what has not been told of a container that has ended; its state says so already."""
        with self._reading:
            self._shares.end(container.id)
        with self._lock:
            self._found.pop(container.id, None)
            told = self._told.pop(container.id, set())
            untold = [victim for victim in ending.out_of_memory if victim.pid not in told]
            for victim in untold:
                self._core.tell(container, "oom", endings.oom_attributes(ending.counts, victim))
            if oom_killed and not (told or untold):
                self._core.tell(container, "oom", endings.oom_attributes(ending.counts, None))

    def _run(self) -> None:
        if self._log < 0:
            return
        with contextlib.closing(select.epoll()) as ready, contextlib.suppress(OSError):
            ready.register(self._log, select.EPOLLIN)
            ready.register(self._wake, select.EPOLLIN)
            while all(number != self._wake for number, _ in ready.poll()):
                self._read({})

    def _read(self, last: dict[str, int]) -> None:
        """Take in what the kernel has written. `last`: what groups that may be gone had counted."""
        with self._reading:
            if self._log < 0:
                return
            unnamed = []
            for raw in kmsg.records(self._log):
                dated = parse(raw) if b"oom-kill:" in raw or b"Killed process" in raw else None
                record = dated[1] if dated else None
                if isinstance(record, Victim):
                    self._named = record.pid
                    self._note_named(record)
                elif isinstance(record, Killed) and record.pid != self._named:
                    unnamed.append(record)
            if unnamed:
                self._share_out(unnamed, last)

    def _note_named(self, victim: Victim) -> None:
        for id in reversed(_ID.findall(victim.group)):
            if container := self._core.registry.get(id):
                if victim.group.endswith(id) or "" in dict(remains.cgroups(self._core, id)):  # v2 counts those below
                    self._shares.named(id)
                self._note(container, OutOfMemory(pid=victim.pid, program=victim.program, host=victim.host))
                return

    def _share_out(self, killed: list[Killed], last: dict[str, int]) -> None:
        counted = {c.id: last.get(c.id) or self._kills(c.id) for c in self._core.registry if c.running}
        id = self._shares.owner(counted, len(killed))
        container = self._core.registry.get(id) if id else None
        if container:
            for k in killed:
                victim = OutOfMemory(pid=k.pid, program=k.program, resident=k.resident, host=k.host)
                self._note(container, victim)

    def _kills(self, id: str) -> int:
        return control.oom_kills(remains.cgroups(self._core, id))

    def _note(self, container: Container, victim: OutOfMemory) -> None:
        """Remember a victim, and tell of it; where its group is gone, its end has what that counted, and is next."""
        counted = self._counted(container.id)
        with self._lock:
            if not container.running:
                return
            found = self._found.setdefault(container.id, {})
            told = self._told.setdefault(container.id, set())
            if victim.pid in found:
                return
            found[victim.pid] = victim
            if len(found) > _REMEMBERED:
                oldest = next(iter(found))
                del found[oldest]
                told.discard(oldest)
            if counted:
                told.add(victim.pid)
                self._core.tell(container, "oom", endings.oom_attributes(counted, victim))

    def _counted(self, id: str) -> Counts | None:
        groups = remains.cgroups(self._core, id)
        counted = counts(groups)
        return counted if os.path.exists(control.directory(groups, "memory") or "") else None
