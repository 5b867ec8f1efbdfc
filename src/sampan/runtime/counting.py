"""What a container's control groups have counted that tells why it has ended."""

from __future__ import annotations

from sampan.kernel import cgroupfs
from sampan.runtime import control
from sampan.spec.ending import Counts

_UNLIMITED = 1 << 62


def counts(cgroups: control.Cgroups) -> Counts:
    """Return what tells why a container has ended. A file that this kernel lacks counts nothing."""
    memory, pids = control.directory(cgroups, "memory"), control.directory(cgroups, "pids")
    if "" in dict(cgroups):
        events = cgroupfs.flat_keyed(_read(memory, "memory.events"))
        limit, peak, refused = "memory.max", "memory.peak", events.get("max", 0)
    else:
        events = cgroupfs.flat_keyed(_read(memory, "memory.oom_control"))
        limit, peak, refused = (
            "memory.limit_in_bytes",
            "memory.max_usage_in_bytes",
            _number(_read(memory, "memory.failcnt")),
        )
    return Counts(
        memory_limit=_number(_read(memory, limit)),
        memory_peak=_number(_read(memory, peak)),
        memory_refused=refused,
        oom_kills=events.get("oom_kill", 0),
        stalled=events.get("under_oom", 0) > 0,
        pids_limit=_number(_read(pids, "pids.max")),
        pids_refused=cgroupfs.flat_keyed(_read(pids, "pids.events")).get("max", 0),
    )


def _read(group: str | None, file: str) -> str:
    try:
        return cgroupfs.read(group, file) if group is not None else ""
    except OSError:
        return ""


def _number(text: str) -> int:
    """Read a number; "max", and v1's word for it, which is all of the address space, are no limit: 0."""
    word = text.strip()
    number = int(word) if word.isdigit() else 0
    return number if number < _UNLIMITED else 0
