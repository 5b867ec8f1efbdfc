"""Performs the steps of `ops.scheduling`; imported only where a plan has one of them."""

from __future__ import annotations

import os

from sampan.kernel import process, scheduling
from sampan.runtime import ops


def perform(op: ops.Scheduling) -> None:
    """Set what the step says, for this process and all that it becomes and starts."""
    match op:
        case ops.SetScheduler():
            _set_scheduler(op)
        case ops.SetIoPriority():
            p = op.io_priority
            process.ioprio_set(0, scheduling.IOPRIO_CLASS[p.class_.removeprefix("IOPRIO_CLASS_")], p.priority)
        case ops.SetAffinity():
            os.sched_setaffinity(0, op.processors)
        case ops.SetMemoryPolicy():
            mode = scheduling.MPOL[op.policy.mode.removeprefix("MPOL_")]
            for flag in op.policy.flags:
                mode |= scheduling.MPOL_F[flag.removeprefix("MPOL_F_")]
            scheduling.set_mempolicy(mode, op.nodes)
        case ops.SetPersonality():
            process.personality(scheduling.PERSONALITY[op.domain])


def _set_scheduler(op: ops.SetScheduler) -> None:
    s = op.scheduler
    flags = 0
    for flag in s.flags:
        flags |= scheduling.SCHED_FLAG[flag.removeprefix("SCHED_FLAG_")]
    scheduling.sched_setattr(
        scheduling.SCHED[s.policy.removeprefix("SCHED_")],
        flags,
        nice=s.nice,
        priority=s.priority,
        runtime_ns=s.runtime,
        deadline_ns=s.deadline,
        period_ns=s.period,
    )
