"""Telling when the kernel kills a process of a container for memory, also where the container runs on.

The kernel's log is waited on: it costs the containers and their shims nothing, and names the process. Its lines come
less often than the kills where those are many, and on some hosts it may not be read: what was not told by then is told
at the container's end, by what its control group has counted.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
from typing import TYPE_CHECKING

from sampan.engine import endings, remains
from sampan.engine.kernel_log import Victim, parse
from sampan.kernel import kmsg
from sampan.runtime import control
from sampan.runtime.counting import counts
from sampan.spec.ending import OutOfMemory

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.ending import Ending

_REMEMBERED = 1024  # victims of one container: it may go on for months, making new ones
_ID = re.compile(r"[0-9a-f]{64}")


class OomWatch:
    """A thread, and who was told of. No event is told twice."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._told: dict[str, dict[int, None]] = {}  # by container, pids, oldest first
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="oom-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        os.eventfd_write(self._wake, 1)
        self._thread.join(10)
        os.close(self._wake)

    def ended(self, container: Container, ending: Ending, *, oom_killed: bool) -> None:
        """Tell what has not been told of a container that has ended; its state says so already."""
        with self._lock:
            told = self._told.pop(container.id, {})
            untold = [victim for victim in ending.out_of_memory if victim.pid not in told]
            for victim in untold:
                self._core.tell(container, "oom", endings.oom_attributes(ending.counts, victim))
            if oom_killed and not (told or untold):
                self._core.tell(container, "oom", endings.oom_attributes(ending.counts, None))

    def _run(self) -> None:
        try:
            fd = kmsg.open_log()
        except OSError:  # a host without it, or one that doesn't let us
            return
        with contextlib.closing(select.epoll()) as ready, open(fd, "rb", buffering=0), contextlib.suppress(OSError):
            os.lseek(fd, 0, os.SEEK_END)
            ready.register(fd, select.EPOLLIN)
            ready.register(self._wake, select.EPOLLIN)
            while all(number != self._wake for number, _ in ready.poll()):
                for record in kmsg.records(fd):
                    self._read(record)

    def _read(self, record: bytes) -> None:
        dated = parse(record) if b"oom-kill:" in record else None
        if dated is None or not isinstance(victim := dated[1], Victim):
            return
        for id in reversed(_ID.findall(victim.group)):
            if container := self._core.registry.get(id):
                self._tell(container, OutOfMemory(pid=victim.pid, program=victim.program, host=victim.host))
                return

    def _tell(self, container: Container, victim: OutOfMemory) -> None:
        groups = remains.cgroups(self._core, container.id)
        counted = counts(groups)
        if not os.path.exists(control.directory(groups, "memory") or ""):
            return  # it ended of this: what its shim has counted before is told with the end
        with self._lock:
            told = self._told.setdefault(container.id, {}) if container.running else {victim.pid: None}
            if victim.pid not in told:
                told[victim.pid] = None
                if len(told) > _REMEMBERED:
                    del told[next(iter(told))]
                self._core.tell(container, "oom", endings.oom_attributes(counted, victim))
