"""`update ID`: other limits for a container that is there."""

from __future__ import annotations

import os
import sys

from msgspec.structs import replace

from sampan.errors import Conflict, InvalidInput, Unsupported
from sampan.oci.options import Option
from sampan.runtime import cgroups, control
from sampan.runtime.probe import probe
from sampan.spec.decoding import decode_document
from sampan.spec.host import CgroupMode
from sampan.spec.runtime import BlockIo, Cpu, Memory, Pids, Resources
from sampan.units import parse_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation
    from sampan.oci.options import Given

USAGE = "[OPTIONS] ID"
OPTIONS = (
    Option("resources r", "file with the resources, as linux.resources has them; - is the standard input"),
    Option("blkio-weight", "share of block devices, 10 to 1000"),
    Option("cpu-period", "period of the quota, in microseconds"),
    Option("cpu-quota", "processor time in each period, in microseconds"),
    Option("cpu-burst", "processor time saved up for later, in microseconds"),
    Option("cpu-share", "share of processors"),
    Option("cpu-idle", "1: run only when nobody else wants to"),
    Option("cpu-rt-period", "period of real-time processes"),
    Option("cpu-rt-runtime", "time of real-time processes in each period"),
    Option("cpuset-cpus", "processors to use"),
    Option("cpuset-mems", "memory nodes to use"),
    Option("memory", "memory limit in bytes; -1 is none"),
    Option("memory-reservation", "soft memory limit in bytes"),
    Option("memory-swap", "memory and swap together, in bytes; -1 is unlimited"),
    Option("kernel-memory", "given up by Linux; taken for crun's sake, and refused"),
    Option("kernel-memory-tcp", "given up by Linux; taken for crun's sake, and refused"),
    Option("pids-limit", "most processes and threads"),
    Option("l3-cache-schema", "Intel RDT's cache allocation"),
    Option("mem-bw-schema", "Intel RDT's memory bandwidth allocation"),
)


def perform(invocation: Invocation) -> int:
    """Write the limits that are given; the others stay as they are."""
    given = invocation.given
    record = invocation.store.find(invocation.id())
    if record.status == "stopped":
        raise Conflict(f"container {record.id} is not running")
    resources = _resources(given)
    host = probe()
    lock = record.lock()
    try:
        if resources.memory and resources.memory.check_before_update:
            control.check_usage(record.cgroups, resources.memory.limit or 0)
        control.update(record.cgroups, cgroups.writes(_with_swap(resources, host.cgroup_mode), host.cgroup_mode))
    finally:
        os.close(lock)
    return 0


def _resources(given: Given) -> Resources:
    for name in ("kernel-memory", "kernel-memory-tcp"):
        if given.value(name):
            raise Unsupported(f"can't set --{name}: Linux has given that up (5.16)", "limit memory instead")
    for name in ("l3-cache-schema", "mem-bw-schema"):
        if given.value(name):
            raise Unsupported(f"can't set --{name}: no resctrl filesystem is managed by update", "set linux.intelRdt")
    if path := given.value("resources"):
        if path == "-":
            return decode_document(sys.stdin.buffer.read(), Resources, "the standard input")
        with open(path, "rb", buffering=0) as file:
            return decode_document(file.readall(), Resources, path)
    pids = given.number("pids-limit")
    weight = given.number("blkio-weight")
    return Resources(
        memory=_memory(given),
        cpu=_cpu(given),
        pids=None if pids is None else Pids(limit=pids),
        block_io=None if weight is None else BlockIo(weight=weight),
    )


def _memory(given: Given) -> Memory:
    return Memory(
        limit=_bytes(given, "memory"),
        reservation=_bytes(given, "memory-reservation"),
        swap=_bytes(given, "memory-swap"),
    )


def _cpu(given: Given) -> Cpu:
    return Cpu(
        shares=given.number("cpu-share"),
        quota=given.number("cpu-quota"),
        period=given.number("cpu-period"),
        burst=given.number("cpu-burst"),
        idle=given.number("cpu-idle"),
        realtime_period=given.number("cpu-rt-period"),
        realtime_runtime=given.number("cpu-rt-runtime"),
        cpus=given.value("cpuset-cpus"),
        mems=given.value("cpuset-mems"),
    )


def _bytes(given: Given, name: str) -> int | None:
    text = given.value(name)
    if not text:
        return None
    if text == "-1":
        return -1
    try:
        return parse_bytes(text)
    except InvalidInput as e:
        raise e.within(f"can't use --{name}") from None


def _with_swap(resources: Resources, mode: CgroupMode) -> Resources:
    """On v1 memory without limit takes swap without limit along: the kernel would refuse one below the other."""
    memory = resources.memory
    if mode is CgroupMode.V1 and memory and memory.limit == -1 and memory.swap is None:
        return replace(resources, memory=replace(memory, swap=-1))
    return resources
