"""The last reading of each container's processor time, for a minute: from it and the next one its share can be told."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sampan.engine.janitor import Janitor
    from sampan.spec.docker.stats import CpuStats

_KEPT_S = 60.0


class Reading(NamedTuple):
    """Processor time at a moment: `begun_ns` names the container's run, `taken_s` is of the monotonic clock."""

    begun_ns: int
    taken_s: float
    read: str
    cpu: CpuStats


class LastReadings:
    """By container. What nobody asked for again is forgotten, of containers that are removed too."""

    def __init__(self, janitor: Janitor, kept_s: float = _KEPT_S) -> None:
        self._janitor = janitor
        self._kept_s = kept_s
        self._lock = threading.Lock()
        self._found: dict[str, Reading] = {}
        self._sweeps = False

    def __len__(self) -> int:
        return len(self._found)

    def note(self, id: str, reading: Reading) -> None:
        """Keep a reading in place of the container's last one."""
        with self._lock:
            self._found[id] = reading
            begin, self._sweeps = not self._sweeps, True
        if begin:
            self._sweep_later()

    def of(self, id: str, begun_ns: int) -> Reading | None:
        """Return the last one of a container's run, if it is still kept."""
        found = self._found.get(id)
        return found if found and found.begun_ns == begun_ns and found.taken_s > self._oldest() else None

    def _oldest(self) -> float:
        return time.monotonic() - self._kept_s

    def _sweep_later(self) -> None:
        self._janitor.later("forget what containers used", self._sweep, self._kept_s)

    def _sweep(self) -> None:
        oldest = self._oldest()
        with self._lock:
            self._found = {id: reading for id, reading in self._found.items() if reading.taken_s > oldest}
            again = self._sweeps = bool(self._found)
        if again:
            self._sweep_later()
