"""Control groups, computed: which groups a container gets, and what is written into their files. Pure.

    groups(host, path)                            [(controller, directory)]; v2: one, controller ""
    of_container(spec, host, usual)               the same of a whole configuration
    writes(resources, mode)                       [(controller, file, text)]
    device_rules(resources)                       what the device controller is told, v1 and v2

The tables follow cgroups(7), the kernel's admin-guide/cgroup-v1 and cgroup-v2, and the runtime specification.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, Unsupported
from sampan.spec.defaults.devices import RULES
from sampan.spec.host import CgroupMode, Host
from sampan.spec.runtime import SYSTEMD, BlockIo, Cpu, DeviceRule, Memory, Network, Resources, Spec

if TYPE_CHECKING:
    from collections.abc import Iterator

Write = tuple[str, str, str]

USUAL = ("memory", "pids", "cpu", "cpuacct", "devices", "freezer", "blkio")
"""v1 controllers of each container: they limit, count, pause and guard. The others cost time, and only when asked."""

V2_CONTROLLERS = ("cpu", "memory", "pids", "io")

DEFAULT_DEVICES = tuple(
    DeviceRule(allow=True, type=r.type, major=r.major, minor=r.minor, access=r.access) for r in RULES if r.allow
)
"""What every container may do, whatever is denied to it before."""


NAMED = "name=systemd"
"""The v1 hierarchy without a controller in which systemd keeps its units; cgroups(7)."""


def of_container(spec: Spec, host: Host, usual: str) -> tuple[tuple[str, str], ...]:
    """Return the groups of a container: at `linux.cgroupsPath`, else at `usual`."""
    named = (NAMED,) if spec.annotations.get(SYSTEMD) == "true" else ()
    return groups(host, spec.linux.cgroups_path or usual, spec.linux.resources, named)


def groups(
    host: Host, path: str, resources: Resources | None, more: tuple[str, ...] = ()
) -> tuple[tuple[str, str], ...]:
    """Return (controller, directory) for each hierarchy in which the container is to have a group of its own.

    `more` are v1 hierarchies that it needs beside those that limit it.
    """
    where = place(path)
    mounts = dict(host.cgroup_mounts)
    match host.cgroup_mode:
        case CgroupMode.NONE:
            return ()
        case CgroupMode.V2:
            return (("", mounts[""] + where),)
        case CgroupMode.V1:
            wanted = [*USUAL, *sorted(_asked(resources) - set(USUAL)), *more]
            found: dict[str, str] = {}
            for controller in wanted:
                directory = mounts.get(controller)
                if directory is None and controller not in USUAL:
                    raise Unsupported(
                        f"can't limit {controller}: this kernel has no {controller} control group mounted"
                    )
                # Controllers that are mounted together share one directory and one entry.
                if directory is not None and directory + where not in found.values():
                    found[controller] = directory + where
            return tuple(found.items())


def place(path: str) -> str:
    """Return where below a hierarchy's mount `linux.cgroupsPath` is: a path, or systemd's "slice:prefix:name".

    No path leads out of the mount. A slice `a-b.slice` is below `a.slice`: systemd.slice(5).
    """
    if path.count(":") == 2 and "/" not in path:
        slice, prefix, name = path.split(":")
        path = "/".join((*_slices(slice or "system.slice"), _unit(prefix, name)))
    found = normal(path)
    if found == "/":
        raise InvalidInput(f"can't use the control group {path!r}: linux.cgroupsPath must name one below the root's")
    return found


def below(parent: str, name: str) -> str:
    """Return the path of a group below a parent: a path, or a slice, which has its place among systemd's."""
    if parent.endswith(".slice") and "/" not in parent:
        return "/".join(("", *_slices(parent), name))
    return normal(f"{parent}/{name}")


def normal(path: str) -> str:
    """Return an absolute path without `.`, `..` and doubled slashes, links apart."""
    found: list[str] = []
    for part in path.split("/"):
        if part == "..":
            found = found[:-1]
        elif part not in {"", "."}:
            found.append(part)
    return "/" + "/".join(found)


def _slices(slice: str) -> list[str]:
    """Return a slice with those that it is in: a-b-c.slice is in a-b.slice, which is in a.slice."""
    words = slice.removesuffix(".slice").split("-")
    if not slice.endswith(".slice") or (slice != "-.slice" and not all(words)):
        raise InvalidInput(f"can't use the control group {slice!r}: linux.cgroupsPath: it is no slice of systemd's")
    return [] if slice == "-.slice" else [f"{'-'.join(words[: n + 1])}.slice" for n in range(len(words))]


def _unit(prefix: str, name: str) -> str:
    """Return the name of a scope; one that is a slice already stays so."""
    return name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"


def _asked(resources: Resources | None) -> set[str]:
    return {controller for controller, _, _ in writes(resources, CgroupMode.V1)} if resources else set()


def directory_of(cgroups: tuple[tuple[str, str], ...], controller: str, host: Host) -> str:
    """Return the directory in which a controller's files are: in v1 two controllers may share a mount."""
    table = dict(cgroups)
    if host.cgroup_mode is CgroupMode.V2:
        return table[""]
    if controller in table:
        return table[controller]
    mounts = dict(host.cgroup_mounts)
    for other, directory in cgroups:
        if mounts.get(other) is not None and mounts.get(other) == mounts.get(controller):
            return directory
    raise Unsupported(f"can't limit {controller}: this kernel has no {controller} control group mounted")


def writes(resources: Resources, mode: CgroupMode) -> list[Write]:
    """Return what limits the container so: (controller, file, text), in the order in which the kernel takes it.

    The device controller is not among them, see `device_rules`. Raise Unsupported for what this mode has no file for.
    """
    table = list(_v2(resources) if mode is CgroupMode.V2 else _v1(resources))
    if table and mode is CgroupMode.NONE:
        raise Unsupported(
            f"can't set {table[0][1]}: no control groups are mounted", "mount them at /sys/fs/cgroup, or drop the limit"
        )
    return table


def device_rules(resources: Resources | None) -> tuple[DeviceRule, ...]:
    """Return the rules, a later one overruling an earlier: the specification's, else none, then the usual devices."""
    asked = resources.devices if resources and resources.devices else (DeviceRule(allow=False),)
    asked = tuple(_checked(rule, f"linux.resources.devices[{n}]") for n, rule in enumerate(asked))
    if asked == (DeviceRule(allow=True),):
        return asked
    return (*asked, *(rule for rule in DEFAULT_DEVICES if rule not in asked))


def _checked(rule: DeviceRule, field: str) -> DeviceRule:
    """Return a rule in our words: nothing and -1 are any number, no type is all."""
    if rule.type not in {"", "a", "b", "c"}:
        raise InvalidInput(f"can't allow devices: {field}.type: {rule.type!r} is none of a, b and c")
    if not set(rule.access) <= set("rwm"):
        raise InvalidInput(f"can't allow devices: {field}.access: {rule.access!r} is not of the letters r, w and m")
    numbers = (None if n is None or n < 0 else n for n in (rule.major, rule.minor))
    major, minor = numbers
    return DeviceRule(allow=rule.allow, type=rule.type or "a", major=major, minor=minor, access=rule.access or "rwm")


def device_writes(rules: tuple[DeviceRule, ...]) -> Iterator[Write]:
    """Say rules as the files of the v1 controller take them."""
    for rule in rules:
        number = ":".join("*" if n is None else str(n) for n in (rule.major, rule.minor))
        file = "devices.allow" if rule.allow else "devices.deny"
        if rule.type == "a" and number == "*:*" and set(rule.access) == set("rwm"):
            yield "devices", file, "a"
        else:  # the kernel takes an "a" for everything, whatever stands behind it: cgroup-v1/devices
            for type in "bc" if rule.type == "a" else rule.type:
                yield "devices", file, f"{type} {number} {rule.access}"


# ----------------------------------------------------------------------------------------------------------------- v1


def _v1(r: Resources) -> Iterator[Write]:
    if r.unified:
        raise Unsupported(f"can't set {next(iter(r.unified))}: this host has cgroup v1, which has no unified files")
    if r.memory:
        yield from _memory_v1(r.memory)
    if r.cpu:
        yield from _cpu_v1(r.cpu)
    if r.pids:
        yield "pids", "pids.max", _limit(r.pids.limit)
    if r.block_io:
        yield from _block_io_v1(r.block_io)
    for huge in r.hugepage_limits:
        yield "hugetlb", f"hugetlb.{huge.page_size}.limit_in_bytes", str(huge.limit)
        yield "hugetlb", f"hugetlb.{huge.page_size}.rsvd.limit_in_bytes", str(huge.limit)
    if r.network:
        yield from _network_v1(r.network)
    yield from _rdma(r)


def _memory_v1(m: Memory) -> Iterator[Write]:
    _refuse_dead_memory_fields(m)
    _check_swap(m)
    # memsw may never be below limit: from unlimited, the lower one goes first.
    if m.limit is not None and m.limit != 0:
        yield "memory", "memory.limit_in_bytes", str(m.limit)
    if m.swap is not None and m.swap != 0:
        yield "memory", "memory.memsw.limit_in_bytes", str(m.swap)
    if m.reservation is not None and m.reservation != 0:
        yield "memory", "memory.soft_limit_in_bytes", str(m.reservation)
    if m.swappiness is not None:
        if not 0 <= m.swappiness <= 100:
            raise InvalidInput(f"can't set memory swappiness {m.swappiness}: it is not between 0 and 100")
        yield "memory", "memory.swappiness", str(m.swappiness)
    if m.disable_oom_killer:
        yield "memory", "memory.oom_control", "1"


def _refuse_dead_memory_fields(m: Memory) -> None:
    for name, value in (("kernel memory", m.kernel), ("kernel TCP memory", m.kernel_tcp)):
        if value is not None and value > 0:
            raise Unsupported(f"can't limit {name}: Linux has given that up (5.16)", "limit memory instead")
    if m.use_hierarchy is False:
        raise Unsupported("can't turn memory hierarchy off: Linux has given that up (5.11)")


def _check_swap(m: Memory) -> None:
    if not m.swap or m.swap < 0:
        return
    if not m.limit or m.limit < 0:
        raise InvalidInput("can't limit memory and swap: no memory limit is set", "set --memory as well")
    if m.swap < m.limit:
        raise InvalidInput(
            f"can't limit memory and swap to {m.swap}: that is below the memory limit {m.limit}",
            "--memory-swap is memory and swap together",
        )


def _check_burst(c: Cpu) -> None:
    if c.burst and c.quota and 0 < c.quota < c.burst:
        raise InvalidInput("can't limit the processor: linux.resources.cpu.burst is larger than its quota")


def _cpu_v1(c: Cpu) -> Iterator[Write]:
    _check_burst(c)
    if c.shares:
        yield "cpu", "cpu.shares", str(c.shares)
    # The period first: a quota is judged by it.
    if c.period:
        yield "cpu", "cpu.cfs_period_us", str(c.period)
    if c.quota:
        yield "cpu", "cpu.cfs_quota_us", str(c.quota)
    if c.burst is not None:
        yield "cpu", "cpu.cfs_burst_us", str(c.burst)
    if c.realtime_period:
        yield "cpu", "cpu.rt_period_us", str(c.realtime_period)
    if c.realtime_runtime:
        yield "cpu", "cpu.rt_runtime_us", str(c.realtime_runtime)
    if c.idle is not None:
        yield "cpu", "cpu.idle", str(c.idle)
    if c.cpus:
        yield "cpuset", "cpuset.cpus", c.cpus
    if c.mems:
        yield "cpuset", "cpuset.mems", c.mems


def _block_io_v1(b: BlockIo) -> Iterator[Write]:
    if b.leaf_weight is not None or any(d.leaf_weight is not None for d in b.weight_device):
        raise Unsupported("can't set a leaf weight: Linux has given that up with its CFQ scheduler (5.0)")
    if b.weight:
        yield "blkio", "blkio.bfq.weight", str(b.weight)
    for w in b.weight_device:
        yield "blkio", "blkio.bfq.weight_device", f"{w.major}:{w.minor} {w.weight}"
    for file, devices in (
        ("read_bps", b.throttle_read_bps_device),
        ("write_bps", b.throttle_write_bps_device),
        ("read_iops", b.throttle_read_iops_device),
        ("write_iops", b.throttle_write_iops_device),
    ):
        for t in devices:
            yield "blkio", f"blkio.throttle.{file}_device", f"{t.major}:{t.minor} {t.rate}"


def _network_v1(n: Network) -> Iterator[Write]:
    if n.class_id is not None:
        yield "net_cls", "net_cls.classid", str(n.class_id)
    for p in n.priorities:
        yield "net_prio", "net_prio.ifpriomap", f"{p.name} {p.priority}"


# ----------------------------------------------------------------------------------------------------------------- v2


def _v2(r: Resources) -> Iterator[Write]:
    if r.memory:
        yield from _memory_v2(r.memory)
    if r.cpu:
        yield from _cpu_v2(r.cpu)
    if r.pids:
        yield "pids", "pids.max", _limit(r.pids.limit)
    if r.block_io:
        yield from _block_io_v2(r.block_io)
    for huge in r.hugepage_limits:
        yield "hugetlb", f"hugetlb.{huge.page_size}.max", str(huge.limit)
        yield "hugetlb", f"hugetlb.{huge.page_size}.rsvd.max", str(huge.limit)
    if r.network and (r.network.class_id is not None or r.network.priorities):
        raise Unsupported("can't set a network class or priority: cgroup v2 has none", "mark packets with nftables")
    yield from _rdma(r)
    for file, text in r.unified.items():
        if "/" in file or "." not in file:
            raise InvalidInput(f"can't set {file!r}: it is no cgroup v2 file")
        yield file.partition(".")[0], file, text


def _memory_v2(m: Memory) -> Iterator[Write]:
    _refuse_dead_memory_fields(m)
    if m.swappiness is not None:
        raise Unsupported("can't set swappiness: cgroup v2 has none", "use vm.swappiness of the host")
    if m.disable_oom_killer:
        raise Unsupported("can't disable the OOM killer: cgroup v2 has no such file")
    _check_swap(m)
    if m.swap is not None and m.swap != 0:
        yield "memory", "memory.swap.max", "max" if m.swap < 0 else str(m.swap - (m.limit or 0))
    if m.limit is not None and m.limit != 0:
        yield "memory", "memory.max", _limit(m.limit)
    if m.reservation is not None and m.reservation != 0:
        yield "memory", "memory.low", _limit(m.reservation)


def _cpu_v2(c: Cpu) -> Iterator[Write]:
    _check_burst(c)
    if c.realtime_period or c.realtime_runtime:
        raise Unsupported("can't limit real-time scheduling: cgroup v2 has no files for it")
    if c.idle is not None:
        yield "cpu", "cpu.idle", str(c.idle)
    if c.shares:
        yield "cpu", "cpu.weight", str(cpu_weight(c.shares))
    if c.quota or c.period:
        quota = str(c.quota) if c.quota and c.quota > 0 else "max"
        yield "cpu", "cpu.max", f"{quota} {c.period or 100_000}"
    if c.burst is not None:
        yield "cpu", "cpu.max.burst", str(c.burst)
    if c.cpus:
        yield "cpuset", "cpuset.cpus", c.cpus
    if c.mems:
        yield "cpuset", "cpuset.mems", c.mems


def cpu_weight(shares: int) -> int:
    """Convert cgroup v1 `cpu.shares` (2..262144) to v2 `cpu.weight` (1..10000).

    0 means unset and stays 0. The ends and Docker's default meet the kernel's (2 → 1, 1024 → 100, 262144 → 10000), by a
    parabola over the logarithm: opencontainers/cgroups, ConvertCPUSharesToCgroupV2Value.
    """
    if shares == 0:
        return 0
    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def _block_io_v2(b: BlockIo) -> Iterator[Write]:
    if b.leaf_weight is not None or any(d.leaf_weight is not None for d in b.weight_device):
        raise Unsupported("can't set a leaf weight: cgroup v2 has none")
    if b.weight:
        yield "io", "io.bfq.weight", str(b.weight)
    for w in b.weight_device:
        yield "io", "io.bfq.weight", f"{w.major}:{w.minor} {w.weight or 0}"
    for key, devices in (
        ("rbps", b.throttle_read_bps_device),
        ("wbps", b.throttle_write_bps_device),
        ("riops", b.throttle_read_iops_device),
        ("wiops", b.throttle_write_iops_device),
    ):
        for t in devices:
            yield "io", "io.max", f"{t.major}:{t.minor} {key}={t.rate}"


def instead(file: str, text: str) -> tuple[str, str] | None:
    """Return what is written where the kernel lacks a file: (file, text), or None where there is nothing to write.

    Weights are BFQ's where it is there, else io.cost's or CFQ's; that reservations of huge pages are counted is
    newer than that their use is (5.7).
    """
    match file:
        case "io.bfq.weight":
            device, _, weight = text.rpartition(" ")
            return "io.weight", f"{device or 'default'} {io_weight(int(weight))}"
        case "blkio.bfq.weight" | "blkio.bfq.weight_device":
            return file.replace(".bfq", ""), text
        case _:
            return None


def may_be_missing(file: str) -> bool:
    """Whether a kernel may lack a file, and `instead` says what to do."""
    return ".bfq." in file or ".rsvd." in file


def io_weight(weight: int) -> int:
    """Convert a v1 weight (10..1000) to v2's `io.weight` (1..10000); 0 means unset and stays 0."""
    return 0 if weight == 0 else 1 + (weight - 10) * 9_999 // 990


def _rdma(r: Resources) -> Iterator[Write]:
    for device, limits in r.rdma.items():
        words = [device]
        if limits.hca_handles is not None:
            words.append(f"hca_handle={limits.hca_handles}")
        if limits.hca_objects is not None:
            words.append(f"hca_object={limits.hca_objects}")
        if len(words) == 1:
            raise InvalidInput(f"can't limit {device}: linux.resources.rdma.{device} has no hcaHandles or hcaObjects")
        yield "rdma", "rdma.max", " ".join(words)


def _limit(number: int) -> str:
    """Say a limit as the kernel does: -1, and for processes 0, is none."""
    return "max" if number <= 0 else str(number)
