"""Limits: Docker's numbers checked with Docker's words, and turned into OCI resources and rlimits. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sampan.engine import cgroup_conf
from sampan.errors import InvalidInput, Unsupported
from sampan.spec.host import CgroupMode
from sampan.spec.runtime import BlockIo, Cpu, DeviceRule, Memory, Pids, Resources, Rlimit
from sampan.units import parse_bytes

if TYPE_CHECKING:
    from sampan.spec.docker import HostConfig
    from sampan.spec.host import Host

_MINIMUM_MEMORY = 6 << 20
_PERIOD_US = 100_000
_GREATEST_SHARES = 1 << 18
_UNLIMITED = (1 << 64) - 1

_RLIMITS = {
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
}  # fmt: skip


class Machine(NamedTuple):
    """What limits are checked against, besides the kernel: the processors and memory nodes that are there."""

    cpus: frozenset[int]
    nodes: frozenset[int]


def writable_bytes(host_config: HostConfig) -> int:
    """Return how much a container may write by its storage options; 0: any amount. Raises InvalidInput."""
    options = host_config.storage_opt or {}
    for name in options:
        if name.lower() != "size":
            raise InvalidInput(f"unknown option {name}", "there is size")
    sizes = [parse_bytes(value) for value in options.values()]
    if sizes and sizes[0] <= 0:
        raise InvalidInput(f"invalid size: {next(iter(options.values()))!r}: it must be greater than 0")
    return sizes[0] if sizes else 0


def resources(
    host_config: HostConfig,
    host: Host,
    machine: Machine,
    devices: tuple[DeviceRule, ...],
    warnings: list[str],
    block_io: BlockIo | None = None,
) -> Resources:
    """Return the limits, or raise InvalidInput in Docker's words. No swap accounting: a warning."""
    _check_controllers(host_config, host)
    _check_realtime(host_config, host)
    found = Resources(
        devices=devices,
        memory=_memory(host_config, host, warnings),
        cpu=_cpu(host_config, machine),
        pids=Pids(limit=host_config.pids_limit) if host_config.pids_limit else None,
        block_io=block_io,
    )
    return cgroup_conf.applied(found, host_config.annotations or {}, host)


def _check_controllers(host_config: HostConfig, host: Host) -> None:
    wanted = {
        "memory": host_config.memory or host_config.memory_reservation,
        "cpu": host_config.nano_cpus or host_config.cpu_shares or host_config.cpu_quota or host_config.cpu_period,
        "cpuset": host_config.cpuset_cpus or host_config.cpuset_mems,
        "pids": host_config.pids_limit,
        "io" if host.cgroup_mode is CgroupMode.V2 else "blkio": asks_block_io(host_config),
    }
    for controller, asked in wanted.items():
        if asked and controller not in host.cgroup_controllers:
            raise Unsupported(
                f"can't limit {controller}: this host gives no {controller} control group",
                "leave the limit out, or enable the controller (cgroups(7))",
            )


def asks_block_io(hc: HostConfig) -> bool:
    """Tell whether a limit of block devices is asked for: weights may be left out, these not."""
    return bool(
        hc.blkio_device_read_bps or hc.blkio_device_write_bps or hc.blkio_device_read_iops or hc.blkio_device_write_iops
    )


def _check_realtime(hc: HostConfig, host: Host) -> None:
    if not (hc.cpu_realtime_period or hc.cpu_realtime_runtime):
        return
    if host.cgroup_mode is not CgroupMode.V1:
        raise Unsupported(
            "unsupported: --cpu-rt-runtime: cgroup v2 has no real-time scheduling", "leave it out, or use chrt(1)"
        )
    if hc.cpu_realtime_period < 0 or hc.cpu_realtime_runtime < -1:
        raise InvalidInput("cpu real-time period and runtime can't be negative")
    if hc.cpu_realtime_period and hc.cpu_realtime_runtime > hc.cpu_realtime_period:
        raise InvalidInput("cpu real-time runtime cannot be higher than cpu real-time period")


def _memory(hc: HostConfig, host: Host, warnings: list[str]) -> Memory | None:
    swap = hc.memory_swap
    if 0 < hc.memory < _MINIMUM_MEMORY or hc.memory < 0:
        raise InvalidInput("Minimum memory limit allowed is 6MB")
    if swap < -1:
        raise InvalidInput(f"invalid memory and swap limit: {swap}", "-1 is without a limit")
    if hc.memory and swap > 0 and swap < hc.memory:
        raise InvalidInput("Minimum memoryswap limit should be larger than memory limit, see usage")
    if not hc.memory and swap > 0:
        raise InvalidInput("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < hc.memory_reservation < _MINIMUM_MEMORY or hc.memory_reservation < 0:
        raise InvalidInput("Minimum memory reservation allowed is 6MB")
    if hc.memory and hc.memory_reservation > hc.memory:
        raise InvalidInput("Minimum memory limit can not be less than memory reservation limit, see usage")
    if hc.memory_swappiness is not None and not 0 <= hc.memory_swappiness <= 100:
        raise InvalidInput(f"Invalid value: {hc.memory_swappiness}, valid memory swappiness range is 0-100")
    if (hc.memory_swappiness is not None or hc.oom_kill_disable) and host.cgroup_mode is not CgroupMode.V1:
        flag = "--oom-kill-disable" if hc.oom_kill_disable else "--memory-swappiness"
        raise Unsupported(f"unsupported: {flag}: cgroup v2 has no such control", "leave it out")
    if swap and not host.swap_accounting:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
        swap = 0
    if hc.oom_kill_disable and not hc.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )
    if not (hc.memory or hc.memory_reservation or hc.memory_swappiness is not None or hc.oom_kill_disable):
        return None
    return Memory(
        limit=hc.memory or None,
        swap=swap or None,
        reservation=hc.memory_reservation or None,
        swappiness=hc.memory_swappiness,
        disable_oom_killer=hc.oom_kill_disable or None,
    )


def _cpu(hc: HostConfig, machine: Machine) -> Cpu | None:
    count = len(machine.cpus)
    if hc.nano_cpus and (hc.cpu_period or hc.cpu_quota):
        other = "Period" if hc.cpu_period else "Quota"
        raise InvalidInput(f"Conflicting options: Nano CPUs and CPU {other} cannot both be set")
    if hc.nano_cpus and not 10_000_000 <= hc.nano_cpus <= count * 10**9:
        raise InvalidInput(f"range of CPUs is from 0.01 to {count:.2f}, as there are only {count} CPUs available")
    if hc.cpu_period and not 1000 <= hc.cpu_period <= 1_000_000:
        raise InvalidInput("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if hc.cpu_quota and hc.cpu_quota != -1 and hc.cpu_quota < 1000:
        raise InvalidInput("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if hc.cpu_shares < 0:
        raise InvalidInput(f"invalid CPU shares ({hc.cpu_shares}): value must be a positive integer")
    if hc.cpu_shares and not 2 <= hc.cpu_shares <= _GREATEST_SHARES:  # the kernel would take the nearest instead
        bound = "minimum" if hc.cpu_shares < 2 else "maximum"
        raise InvalidInput(f"the {bound} allowed cpu-shares is {2 if hc.cpu_shares < 2 else _GREATEST_SHARES}")
    _check_set(hc.cpuset_cpus, machine.cpus, "cpus", "CPUs")
    _check_set(hc.cpuset_mems, machine.nodes, "mems", "memory nodes")
    quota, period = hc.cpu_quota, hc.cpu_period
    if hc.nano_cpus:
        quota, period = hc.nano_cpus * _PERIOD_US // 10**9, _PERIOD_US
    realtime = hc.cpu_realtime_period or hc.cpu_realtime_runtime
    if not (quota or period or hc.cpu_shares or hc.cpuset_cpus or hc.cpuset_mems or realtime):
        return None
    return Cpu(
        shares=hc.cpu_shares or None,
        quota=quota or None,
        period=period or None,
        realtime_period=hc.cpu_realtime_period or None,
        realtime_runtime=hc.cpu_realtime_runtime or None,
        cpus=hc.cpuset_cpus,
        mems=hc.cpuset_mems,
    )


def _check_set(text: str, there: frozenset[int], field: str, words: str) -> None:
    if not text:
        return
    asked = parse_set(text)
    if asked is None:
        raise InvalidInput(f"Invalid value {text} for cpuset {field}", "write it as 0-3,5")
    if not asked <= there:
        raise InvalidInput(f"Requested {words} are not available - requested {text}, available: {format_set(there)}")


def parse_set(text: str) -> frozenset[int] | None:
    """Return the numbers of "0-3,5"; None when it is not of that form."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.strip().partition("-")
        if not all(n.isascii() and n.isdigit() and len(n) <= 5 for n in ((first, last) if dash else (first,))):
            return None
        numbers.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(numbers) or None


def format_set(numbers: frozenset[int]) -> str:
    """Return "0-3,5" of the numbers."""
    parts: list[str] = []
    start = previous = -2
    for n in [*sorted(numbers), 1 << 31]:
        if n != previous + 1:
            if start >= 0:
                parts.append(str(start) if start == previous else f"{start}-{previous}")
            start = n
        previous = n
    return ",".join(parts)


def rlimits(host_config: HostConfig, host: Host, warnings: list[str]) -> tuple[Rlimit, ...]:
    """Return `--ulimit` as OCI has it. One above what this process may set is lowered, with a warning."""
    hard_limits = dict(host.rlimits)
    result = []
    for ulimit in host_config.ulimits or ():
        if ulimit.name not in _RLIMITS:
            raise InvalidInput(f"invalid ulimit type: {ulimit.name}", f"it is one of {', '.join(sorted(_RLIMITS))}")
        name = f"RLIMIT_{ulimit.name.upper()}"
        soft, hard = (_UNLIMITED if n == -1 else n for n in (ulimit.soft, ulimit.hard))
        if soft < 0 or hard < 0:
            raise InvalidInput(f"invalid ulimit {ulimit.name}: {ulimit.soft}:{ulimit.hard} is negative")
        if soft > hard:
            raise InvalidInput(
                f"ulimit soft limit must be less than or equal to hard limit: {ulimit.soft} > {ulimit.hard}"
            )
        ours = hard_limits.get(name, _UNLIMITED)
        ours = _UNLIMITED if ours < 0 else ours
        if hard > ours and not host.may_raise_rlimits:
            word = "unlimited" if hard == _UNLIMITED else hard
            warnings.append(f"--ulimit {ulimit.name}: {word} is above this host's hard limit and was lowered to {ours}")
            soft, hard = min(soft, ours), ours
        result.append(Rlimit(type=name, soft=soft, hard=hard))
    return tuple(result)
