"""When a process is to run, on what, and as what kind of machine's: the steps, computed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, Unsupported
from sampan.runtime import ops

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.spec.host import Host
    from sampan.spec.runtime import Linux, MemoryPolicy, Process, Scheduler

_MOST_CPUS = 1 << 16


def steps(process: Process, linux: Linux) -> Iterator[ops.Scheduling]:
    """Return what is set when the process is in its control groups, and still has the rights to set it."""
    if process.scheduler:
        yield _scheduler(process.scheduler)
    if process.io_priority:
        if not 0 <= process.io_priority.priority <= 7:
            raise InvalidInput("can't set the I/O priority: process.ioPriority.priority must be a number from 0 to 7")
        yield ops.SetIoPriority(process.io_priority)
    if linux.memory_policy and linux.memory_policy.mode:
        yield _memory_policy(linux.memory_policy)
    if linux.personality:
        if linux.personality.flags:
            raise Unsupported("can't set the personality: linux.personality.flags: the specification defines none")
        if linux.personality.domain not in {"", "LINUX"}:
            yield ops.SetPersonality(linux.personality.domain)


def resctrl(linux: Linux, host: Host, id: str) -> ops.JoinResctrl | None:
    """Return the entering of the class of service; config-linux.md, "IntelRdt"."""
    rdt = linux.intel_rdt
    if rdt is None:
        return None
    name = rdt.clos_id or id
    if "/" in name or name in {".", ".."}:
        raise InvalidInput(f"can't set Intel RDT: linux.intelRdt.closID: {name!r} is no directory's name")
    if "\n" in rdt.mem_bw_schema or (rdt.mem_bw_schema and not rdt.mem_bw_schema.startswith("MB:")):
        raise InvalidInput("can't set Intel RDT: linux.intelRdt.memBwSchema must be one line that starts with MB:")
    cache = [line for line in rdt.l3_cache_schema.split("\n") if line]
    if rdt.mem_bw_schema:
        cache = [*(line for line in cache if not line.startswith("MB:")), rdt.mem_bw_schema]
    directory = f"{host.resctrl}/{name}"
    monitor = f"{directory}/mon_groups/{id}" if rdt.enable_monitoring else ""
    return ops.JoinResctrl(directory, (*cache, *rdt.schemata), bool(rdt.clos_id), monitor)


def affinity(process: Process) -> tuple[ops.SetAffinity | None, ops.SetAffinity | None]:
    """Return the processors that an exec runs on before it enters the container's control groups, and after."""
    asked = process.exec_cpu_affinity
    if asked is None:
        return None, None
    return _affinity(asked.initial, "initial"), _affinity(asked.final, "final")


def _affinity(text: str, field: str) -> ops.SetAffinity | None:
    return ops.SetAffinity(numbers(text, f"process.execCPUAffinity.{field}")) if text.strip() else None


def numbers(text: str, field: str) -> tuple[int, ...]:
    """Read a list like "0-2, 7" of processors or memory nodes; `field` names it in an error."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InvalidInput(f'can\'t read {field}: {text!r} is no list of numbers like "0-2,7"')
        least, most = int(first), int(last or first)
        if not least <= most < _MOST_CPUS:
            raise InvalidInput(f"can't read {field}: {part.strip()!r} is no range of numbers below {_MOST_CPUS}")
        found.update(range(least, most + 1))
    return tuple(sorted(found))


def _scheduler(s: Scheduler) -> ops.SetScheduler:
    if s.policy == "SCHED_ISO":
        raise Unsupported("can't set the scheduler: process.scheduler.policy: Linux has no SCHED_ISO")
    if not -20 <= s.nice <= 19:
        raise InvalidInput("can't set the scheduler: process.scheduler.nice must be a number from -20 to 19")
    if s.priority and s.policy not in {"SCHED_FIFO", "SCHED_RR"}:
        raise InvalidInput("can't set the scheduler: process.scheduler.priority is for SCHED_FIFO and SCHED_RR")
    if (s.runtime or s.deadline or s.period) and s.policy != "SCHED_DEADLINE":
        raise InvalidInput("can't set the scheduler: process.scheduler.runtime, deadline, period: for SCHED_DEADLINE")
    return ops.SetScheduler(s)


def _memory_policy(policy: MemoryPolicy) -> ops.SetMemoryPolicy:
    nodes = numbers(policy.nodes, "linux.memoryPolicy.nodes") if policy.nodes.strip() else ()
    without = policy.mode in {"MPOL_DEFAULT", "MPOL_LOCAL"}
    if without and (nodes or policy.flags):
        raise InvalidInput(f"can't set the memory policy: {policy.mode} takes no linux.memoryPolicy.nodes and no flags")
    if not without and not nodes and policy.mode != "MPOL_PREFERRED":
        raise InvalidInput(f"can't set the memory policy: {policy.mode} needs linux.memoryPolicy.nodes")
    return ops.SetMemoryPolicy(policy, nodes)
