"""Recording how a container has ended: what its shim has told, and what the kernel's log says of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from sampan.engine import kernel_log
from sampan.engine.oci_words import cause_in
from sampan.spec.ending import Ending, FullDisk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.engine.kernel_log import KernelLog
    from sampan.errors import SampanError
    from sampan.spec.ending import Counts, OutOfMemory
    from sampan.spec.state import State
    from sampan.supervise.messages import Exited

SIGSYS = 31
CRASHES = frozenset({4, 5, 7, 8, 11})
"""SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV: what the processor refused."""

_LEAST_FREE = 16 << 20
_LEAST_SHARE = 1000


def of_exit(exited: Exited, state: State) -> Ending:
    """Return what the shim has told of an end; `state` is from before it."""
    return Ending(
        at_ns=exited.finished_at_ns,
        started_at_ns=state.started_at_ns,
        pid=state.pid,
        exit_code=255 if exited.exit_code is None else exited.exit_code,
        unknown=exited.exit_code is None,
        signal=exited.signal,
        core_dumped=exited.core_dumped,
        sent=exited.sent,
        counts=exited.counts,
    )


def of_failed_start(error: SampanError, exit_code: int, at_ns: int) -> Ending:
    """Return the end of a start that never became one."""
    return Ending(at_ns=at_ns, exit_code=exit_code, error=cause_in(error.message), hint=error.hint)


def with_kernel_records(ending: Ending, id: str, oom_killed: bool, log: KernelLog) -> Ending:
    """Add what the kernel's log says of it. That is read only where there should be something in it."""
    number = ending.signal or (ending.exit_code - 128 if ending.exit_code > 128 else 0)
    if not (oom_killed or number == SIGSYS or number in CRASHES):
        return ending
    records = log.records(ending.started_at_ns)
    # Where the first process only tells of a child's end, the last record of that time is likely that child's.
    pid = ending.pid if ending.signal else 0
    victims = kernel_log.out_of_memory(records, id, ending.pid) if oom_killed else ()
    if ending.counts:  # its earlier runs had groups of the same name
        victims = victims[-max(1, ending.counts.oom_kills) :]
    return msgspec.structs.replace(  # what was found once may have been overwritten since
        ending,
        out_of_memory=ending.out_of_memory or victims,
        forbidden=ending.forbidden or (kernel_log.forbidden(records, pid) if number == SIGSYS else ()),
        crashes=ending.crashes or (kernel_log.crashes(records, pid) if number in CRASHES else ()),
    )


def full_disks(places: Iterable[tuple[str, str]]) -> tuple[FullDisk, ...]:
    """Return which of the filesystems of these places, (what is there, path), have no room for users."""
    found: dict[int, FullDisk] = {}
    for holds, path in places:
        try:
            device, facts = os.stat(path).st_dev, os.statvfs(path)
        except OSError:
            continue
        free, size = facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize
        no_inodes = facts.f_files > 0 and facts.f_favail == 0
        if device not in found and (no_inodes or free < min(_LEAST_FREE, size // _LEAST_SHARE)):
            found[device] = FullDisk(holds=holds, path=path, free=free, size=size, inodes=no_inodes)
    return tuple(found.values())


def attributes(ending: Ending) -> dict[str, str]:
    """Return the facts as attributes of the event `die`."""
    found = {}
    if ending.signal:
        found["signal"] = str(ending.signal)
    if ending.sent and ending.sent[-1].number == ending.signal:
        sender = ending.sent[-1].sender
        found |= (
            {"signalledBy": sender.verb, "signalledByProgram": sender.program}
            if sender.pid
            else {"signalledBy": sender.verb}
        )
    if ending.forbidden:
        found["forbiddenSyscall"] = ending.forbidden[-1].syscall
    return found


def oom_attributes(counts: Counts | None, victim: OutOfMemory | None) -> dict[str, str]:
    """Return the facts as attributes of the event `oom`."""
    found = _counted(counts) if counts else {}
    return found | (_victim(victim) if victim else {})


def _counted(counts: Counts) -> dict[str, str]:
    return {"memoryLimit": str(counts.memory_limit), "memoryPeak": str(counts.memory_peak)}


def _victim(victim: OutOfMemory) -> dict[str, str]:
    return {"oomProcess": victim.program, "oomPid": str(victim.pid)}
