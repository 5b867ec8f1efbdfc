"""What a container's control groups have counted, in the form of runc's `events`."""

from __future__ import annotations

import os
from typing import Any

from sampan.kernel import cgroupfs
from sampan.runtime import control

_UNLIMITED = 2**64 - 1
_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_BLOCK_IO_V1 = {
    "ioServiceBytesRecursive": "blkio.throttle.io_service_bytes_recursive",
    "ioServicedRecursive": "blkio.throttle.io_serviced_recursive",
}


def statistics(cgroups: control.Cgroups) -> dict[str, Any]:
    """Return processor time in ns, memory in bytes, processes, block I/O and huge pages."""
    v2 = dict(cgroups).get("")
    return _v2(v2) if v2 is not None else _v1(cgroups)


def processor(cgroups: control.Cgroups) -> dict[str, Any]:
    """Return processor time alone, as `statistics` has it under `cpu`."""
    v2 = dict(cgroups).get("")
    return _processor_v2(v2) if v2 is not None else _processor_v1(cgroups)


def _processor_v1(cgroups: control.Cgroups) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if group := control.directory(cgroups, "cpuacct"):
        stat = cgroupfs.flat_keyed(_read(group, "cpuacct.stat"))
        usage = {
            "total": _number(group, "cpuacct.usage"),
            "percpu": [int(word) for word in _read(group, "cpuacct.usage_percpu").split()],
            "kernel": stat.get("system", 0) * _NS_PER_TICK,
            "user": stat.get("user", 0) * _NS_PER_TICK,
        }
        found = {"usage": usage, "throttling": {}}
    if group := control.directory(cgroups, "cpu"):
        found["throttling"] = _throttling(cgroupfs.flat_keyed(_read(group, "cpu.stat")), "throttled_time", 1)
    return found


def _processor_v2(group: str) -> dict[str, Any]:
    cpu = cgroupfs.flat_keyed(_read(group, "cpu.stat"))
    usage = {
        "total": cpu.get("usage_usec", 0) * 1000,
        "kernel": cpu.get("system_usec", 0) * 1000,
        "user": cpu.get("user_usec", 0) * 1000,
    }
    return {"usage": usage, "throttling": _throttling(cpu, "throttled_usec", 1000)}


def _v1(cgroups: control.Cgroups) -> dict[str, Any]:
    found: dict[str, Any] = {"memory": {}, "pids": {}, "blkio": {}, "hugetlb": {}, "intel_rdt": {}}
    found["cpu"] = _processor_v1(cgroups)
    if group := control.directory(cgroups, "memory"):
        found["memory"] = _memory_v1(group)
    if group := control.directory(cgroups, "pids"):
        found["pids"] = _pids(group)
    if group := control.directory(cgroups, "blkio"):
        found["blkio"] = {name: _block_io_v1(_read(group, file)) for name, file in _BLOCK_IO_V1.items()}
    return found


def _memory_v1(group: str) -> dict[str, Any]:
    stat = cgroupfs.flat_keyed(_read(group, "memory.stat"))

    def counted(prefix: str) -> dict[str, int]:
        names = {
            "limit": "limit_in_bytes",
            "usage": "usage_in_bytes",
            "max": "max_usage_in_bytes",
            "failcnt": "failcnt",
        }
        return {name: _number(group, f"memory.{prefix}{file}") for name, file in names.items()}

    return {
        "cache": stat.get("cache", 0),
        "usage": counted(""),
        "swap": counted("memsw."),
        "kernel": counted("kmem."),
        "raw": stat,
    }


def _block_io_v1(text: str) -> list[dict[str, Any]]:
    rows = (line.split() for line in text.splitlines() if ":" in line)
    return [
        {"major": int(row[0].split(":")[0]), "minor": int(row[0].split(":")[1]), "op": row[1], "value": int(row[2])}
        for row in rows
    ]


def _v2(group: str) -> dict[str, Any]:
    stat = cgroupfs.flat_keyed(_read(group, "memory.stat"))
    events = cgroupfs.flat_keyed(_read(group, "memory.events"))
    return {
        "cpu": _processor_v2(group),
        "memory": {
            "cache": stat.get("file", 0),
            "usage": {
                "limit": _number(group, "memory.max"),
                "usage": _number(group, "memory.current"),
                "max": _number(group, "memory.peak"),
                "failcnt": events.get("max", 0),
            },
            "swap": {
                "limit": _number(group, "memory.swap.max"),
                "usage": _number(group, "memory.swap.current"),
                "failcnt": cgroupfs.flat_keyed(_read(group, "memory.swap.events")).get("max", 0),
            },
            "raw": stat,
        },
        "pids": _pids(group),
        "blkio": {"ioServiceBytesRecursive": _block_io_v2(_read(group, "io.stat"))},
        "hugetlb": {},
        "intel_rdt": {},
    }


def _block_io_v2(text: str) -> list[dict[str, Any]]:
    found = []
    for line in text.splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        for key, op in (("rbytes", "Read"), ("wbytes", "Write")):
            if key in values:
                found.append({"major": int(major), "minor": int(minor), "op": op, "value": int(values[key])})
    return found


def _throttling(stat: dict[str, int], time: str, ns: int) -> dict[str, int]:
    return {
        "periods": stat.get("nr_periods", 0),
        "throttledPeriods": stat.get("nr_throttled", 0),
        "throttledTime": stat.get(time, 0) * ns,
    }


def _pids(group: str) -> dict[str, int]:
    most = _number(group, "pids.max")
    return {"current": _number(group, "pids.current")} | ({} if most == _UNLIMITED else {"limit": most})


def _number(group: str, file: str) -> int:
    """Return a file's number; "max" is the greatest that 64 bits hold, a file that is not there is 0."""
    text = _read(group, file).strip()
    return _UNLIMITED if text == "max" else int(text or 0)


def _read(group: str, file: str) -> str:
    try:
        return cgroupfs.read(group, file)
    except FileNotFoundError:
        return ""
