"""What a container uses, for `GET /containers/{id}/stats`. These names are Docker's own, unlike other bodies'."""

from __future__ import annotations

import msgspec

from sampan.units import ZERO_TIME


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Any part of it."""


class CpuUsage(Part, frozen=True, kw_only=True):
    """Processor time in nanoseconds since the container's start."""

    total_usage: int = 0
    percpu_usage: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET  # cgroup v1 only
    usage_in_kernelmode: int = 0
    usage_in_usermode: int = 0


class Throttling(Part, frozen=True, kw_only=True):
    """How often it was at its limit of processor time, and for how long in nanoseconds."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class CpuStats(Part, frozen=True, kw_only=True):
    """Processor time, and what the whole machine had in the same time: proc(5), the first line of stat, in ns."""

    cpu_usage: CpuUsage = CpuUsage()
    system_cpu_usage: int | msgspec.UnsetType = msgspec.UNSET
    online_cpus: int | msgspec.UnsetType = msgspec.UNSET
    throttling_data: Throttling = Throttling()


class MemoryStats(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Bytes. `stats` is the kernel's memory.stat, `limit` that of the machine where the container has none."""

    usage: int = 0
    max_usage: int = 0
    stats: dict[str, int] = {}
    failcnt: int = 0
    limit: int = 0


class PidsStats(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Processes and threads."""

    current: int = 0
    limit: int = 0


class BlkioEntry(Part, frozen=True, kw_only=True):
    """Bytes, or how many times, read from or written to a device."""

    major: int
    minor: int
    op: str
    value: int


class BlkioStats(Part, frozen=True, kw_only=True):
    """Block devices. The others of Docker's fields are of a scheduler that Linux has given up."""

    io_service_bytes_recursive: tuple[BlkioEntry, ...] | None = None
    io_serviced_recursive: tuple[BlkioEntry, ...] | None = None
    io_queue_recursive: None = None
    io_service_time_recursive: None = None
    io_wait_time_recursive: None = None
    io_merged_recursive: None = None
    io_time_recursive: None = None
    sectors_recursive: None = None


class NetworkStats(Part, frozen=True, kw_only=True):
    """What one of its links has carried."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


class StorageStats(Part, frozen=True, kw_only=True):
    """Of Windows."""


class StatsResponse(Part, frozen=True, kw_only=True):
    """One sample. `precpu_stats` and `preread` are those of the sample before."""

    name: str
    id: str
    read: str = ZERO_TIME
    preread: str = ZERO_TIME
    pids_stats: PidsStats = PidsStats()
    num_procs: int = 0
    storage_stats: StorageStats = StorageStats()
    cpu_stats: CpuStats = CpuStats()
    precpu_stats: CpuStats = CpuStats()
    memory_stats: MemoryStats = MemoryStats()
    blkio_stats: BlkioStats = BlkioStats()
    networks: dict[str, NetworkStats] | msgspec.UnsetType = msgspec.UNSET
