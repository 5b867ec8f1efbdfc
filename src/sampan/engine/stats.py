"""`stats`: what containers use, read from their control groups and links."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from sampan.engine import remains
from sampan.engine.core import now_ns
from sampan.engine.last_readings import Reading
from sampan.errors import InvalidInput
from sampan.runtime.statistics import processor, statistics
from sampan.spec.docker.stats import (
    BlkioEntry,
    BlkioStats,
    CpuStats,
    CpuUsage,
    MemoryStats,
    NetworkStats,
    PidsStats,
    StatsResponse,
    Throttling,
)
from sampan.units import ZERO_TIME, format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sampan.engine.core import Core
    from sampan.engine.registry import Container

_INTERVAL_S = 1.0
_FIRST_S = 0.1
_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
_LINK_FIELDS = ((0, "rx_bytes"), (1, "rx_packets"), (2, "rx_errors"), (3, "rx_dropped"), (8, "tx_bytes"),
                (9, "tx_packets"), (10, "tx_errors"), (11, "tx_dropped"))  # fmt: skip


def sample(core: Core, container: Container) -> StatsResponse:
    """Return what a container uses now; of one that does not run, nothing but its names."""
    pid = container.state.pid
    if not container.running or not pid:
        return _named(container)
    counted = statistics(remains.cgroups(core, container.id))
    found = replace(
        _named(container),
        read=format_timestamp(now_ns()),
        cpu_stats=_cpu(counted["cpu"]),
        memory_stats=_memory(counted["memory"]),
        pids_stats=PidsStats(**counted["pids"]),
        blkio_stats=_block_io(counted["blkio"]),
    )
    links = _links(pid) if _has_links(container) else {}
    return replace(found, networks=links) if links else found


def glance(core: Core, container: Container) -> Reading:
    """Return what the next sample needs of one before it: when it was, and the processor time."""
    begun_ns = container.state.started_at_ns
    cpu = _cpu(processor(remains.cgroups(core, container.id)))
    return Reading(begun_ns, time.monotonic(), format_timestamp(now_ns()), cpu)


def _named(container: Container) -> StatsResponse:
    return StatsResponse(name=f"/{container.name}", id=container.id)


def _has_links(container: Container) -> bool:
    mode = container.body.host_config.network_mode
    return mode not in ("none", "host") and not mode.startswith("container:")


def _cpu(counted: dict[str, Any]) -> CpuStats:
    usage, throttling = counted.get("usage", {}), counted.get("throttling", {})
    system, count = _machine()
    each = {"percpu_usage": tuple(usage["percpu"])} if usage.get("percpu") else {}
    return CpuStats(
        cpu_usage=CpuUsage(
            total_usage=usage.get("total", 0),
            usage_in_kernelmode=usage.get("kernel", 0),
            usage_in_usermode=usage.get("user", 0),
            **each,
        ),
        system_cpu_usage=system,
        online_cpus=count,
        throttling_data=Throttling(
            periods=throttling.get("periods", 0),
            throttled_periods=throttling.get("throttledPeriods", 0),
            throttled_time=throttling.get("throttledTime", 0),
        ),
    )


def _machine() -> tuple[int, int]:
    """Return the time that all processors had, in ns, idle or not, and their number.

    Not from /proc/stat, as Docker has it: that counts in hundredths of a second, and first samples are a tenth apart.
    """
    count = os.cpu_count() or 1
    return time.monotonic_ns() * count, count


def _memory(counted: dict[str, Any]) -> MemoryStats:
    usage = counted.get("usage", {})
    return MemoryStats(
        usage=usage.get("usage", 0),
        max_usage=usage.get("max", 0),
        failcnt=usage.get("failcnt", 0),
        limit=min(usage.get("limit", _MEMORY), _MEMORY),
        stats=counted.get("raw", {}),
    )


def _block_io(counted: dict[str, Any]) -> BlkioStats:
    def rows(name: str) -> tuple[BlkioEntry, ...] | None:
        return tuple(BlkioEntry(**{**row, "op": row["op"].lower()}) for row in counted.get(name, ())) or None

    return BlkioStats(
        io_service_bytes_recursive=rows("ioServiceBytesRecursive"), io_serviced_recursive=rows("ioServicedRecursive")
    )


def _links(pid: int) -> dict[str, NetworkStats]:
    """Read the counters of a container's links, without its loopback one: proc(5), net/dev."""
    try:
        with open(f"/proc/{pid}/net/dev") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, _, numbers = line.partition(":")
        words = numbers.split()
        if name.strip() != "lo":
            found[name.strip()] = NetworkStats(**{field: int(words[i]) for i, field in _LINK_FIELDS})
    return found


# ----------------------------------------------------------------------------------------- one after another


class Samples:
    """Samples of containers, each second, until `close`. `names` empty: of those that run, or `all`."""

    def __init__(self, core: Core, names: Sequence[str], *, all: bool = False) -> None:
        """Raise NotFound for a name that no container has."""
        self._core = core
        self._chosen = [core.registry.find(name) for name in names]
        self._all = all
        self._closed = threading.Event()
        self._before: dict[str, Reading] = {}

    def close(self) -> None:
        """End the iteration, from any thread."""
        self._closed.set()

    def take(self) -> tuple[StatsResponse, ...]:
        """Return a sample of each, with the processor time of the one before."""
        found = []
        before, self._before = self._before, {}
        for container in self._containers():
            begun_ns = container.state.started_at_ns  # before the sample: it may be started again any moment
            now = sample(self._core, container)
            if (last := before.get(container.id)) is not None and last.begun_ns == begun_ns:
                now = replace(now, preread=last.read, precpu_stats=last.cpu)
            if now.read != ZERO_TIME:
                self._before[container.id] = reading = Reading(begun_ns, time.monotonic(), now.read, now.cpu_stats)
                self._core.last_readings.note(container.id, reading)
            found.append(now)
        return tuple(found)

    def _containers(self) -> list[Container]:
        if self._chosen:
            return [container for container in self._chosen if not container.removed]
        every = sorted(self._core.registry, key=lambda container: container.created_ns, reverse=True)
        return [container for container in every if self._all or container.running]

    def once(self) -> tuple[StatsResponse, ...]:
        """Return one sample of each from which the share of processor time can be told.

        That of the time since the last sample, whoever asked for it within the last minute. Without one, or so soon
        after it that little can be told, it takes a moment.
        """
        self._before = {container.id: self._last(container) for container in self._containers() if container.running}
        youngest = max((reading.taken_s for reading in self._before.values()), default=0.0)
        self._closed.wait(max(0.0, youngest + _FIRST_S - time.monotonic()))
        return self.take()

    def _last(self, container: Container) -> Reading:
        last = self._core.last_readings.of(container.id, container.state.started_at_ns)
        return last or glance(self._core, container)

    def __iter__(self) -> Iterator[tuple[StatsResponse, ...]]:
        yield self.once()
        while not self._closed.wait(_INTERVAL_S) and not (self._chosen and not self._containers()):
            yield self.take()


def check_one_shot(*, stream: bool, one_shot: bool) -> None:
    """Raise InvalidInput where both are asked for."""
    if stream and one_shot:
        raise InvalidInput("cannot have stream=true and one-shot=true")
