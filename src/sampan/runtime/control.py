"""What is done to a living container through its control groups: freeze, kill everyone, change limits, count, remove.

`cgroups` is always the plan's: (controller, directory) for each hierarchy; v2: one, controller "".
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.errors import Conflict, Failed, SyscallError, Unsupported, doing
from sampan.kernel import cgroupfs

if TYPE_CHECKING:
    from collections.abc import Iterable

Cgroups = tuple[tuple[str, str], ...]

_FREEZE_WITHIN_S = 10.0
_KILL_WITHIN_S = 10.0
_MOVE_WITHIN_S = 5.0


def directory(cgroups: Cgroups, controller: str) -> str | None:
    """Return where a controller's files of this container are; None where it has no such group."""
    table = dict(cgroups)
    found = table.get("", table.get(controller))
    if found is None:
        # Controllers that share a mount have one entry, under the name of the first; the mount is named by both.
        shared = (d for _, d in cgroups if controller in d.split("/sys/fs/cgroup/")[-1].split("/")[0].split(","))
        found = next(shared, None)
    return found


def processes(cgroups: Cgroups) -> list[int]:
    """List all processes of the container as the host numbers them, those of groups that it made below its own too."""
    for wanted in ("", "pids", "memory", "freezer", "devices"):
        if wanted in dict(cgroups):
            return cgroupfs.processes_below(dict(cgroups)[wanted])
    return cgroupfs.processes_below(cgroups[0][1]) if cgroups else []


def join(cgroups: Cgroups, more: Cgroups) -> None:
    """Make v1 groups that a running container did not have, and move all its processes there."""
    for controller, group in more:
        cgroupfs.make(group)
        if controller == "cpuset":
            cgroupfs.inherit_cpuset(group)
        deadline = time.monotonic() + _MOVE_WITHIN_S
        while left := set(processes(cgroups)) - set(cgroupfs.processes_below(group)):
            for pid in left:
                try:
                    cgroupfs.add_process(group, pid)
                except SyscallError as e:
                    if e.errno != errno.ESRCH:  # it has ended meanwhile
                        raise
            if time.monotonic() > deadline:
                raise Failed(f"can't limit {controller}: its processes fork faster than they can be moved")


def freeze(cgroups: Cgroups, frozen: bool) -> None:
    """Stop all processes of the container, or let them go on; return when it is so. If one can't stop, all go on."""
    deadline = time.monotonic() + _FREEZE_WITHIN_S
    while not _freeze(cgroups, frozen):
        if time.monotonic() > deadline:
            if frozen:
                _freeze(cgroups, False)
            raise Failed(
                "can't pause or resume the container: the kernel has not done it in 10 s",
                "a process of it hangs in the kernel: state D",
            )
        time.sleep(0.002)


def _freeze(cgroups: Cgroups, frozen: bool) -> bool:
    """Ask the kernel for it; return whether it is so."""
    if (group := dict(cgroups).get("")) is not None:
        cgroupfs.write(group, "cgroup.freeze", "1" if frozen else "0")
        return cgroupfs.flat_keyed(cgroupfs.read(group, "cgroup.events")).get("frozen") == frozen
    v1 = directory(cgroups, "freezer")
    if v1 is None:
        raise Unsupported("can't pause the container: this host has no freezer control group")
    word = "FROZEN" if frozen else "THAWED"
    # A group may stay FREEZING for a fork that came between: writing again helps; kernel: freezer-subsystem.
    cgroupfs.write(v1, "freezer.state", word)
    return cgroupfs.read(v1, "freezer.state").strip() == word


def frozen(cgroups: Cgroups) -> bool:
    """Whether the container's processes stand still, or are about to."""
    if (group := dict(cgroups).get("")) is not None:
        return cgroupfs.read(group, "cgroup.freeze").strip() == "1"
    v1 = directory(cgroups, "freezer")
    return v1 is not None and cgroupfs.read(v1, "freezer.state").strip() != "THAWED"


def kill_everyone(cgroups: Cgroups, number: int = signal.SIGKILL) -> None:
    """Send a signal to every process of the container. SIGKILL leaves none, whatever they fork meanwhile."""
    if number != signal.SIGKILL:
        for pid in processes(cgroups):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return
    if (group := dict(cgroups).get("")) is not None:
        try:
            cgroupfs.write(group, "cgroup.kill", "1")
        except SyscallError as e:  # ENOENT: the group has gone, or the kernel is older than 5.14
            if e.errno != errno.ENOENT:
                raise
        else:
            return
    _kill_one_by_one(cgroups)


def _kill_one_by_one(cgroups: Cgroups) -> None:
    """Kill until the groups are empty. In v1 frozen processes can't die, so they go on when they have the signal."""
    deadline = time.monotonic() + _KILL_WITHIN_S
    while pids := processes(cgroups):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if (group := dict(cgroups).get("freezer")) is not None:
            with suppress(OSError):
                cgroupfs.write(group, "freezer.state", "THAWED")
        if time.monotonic() > deadline:
            raise Failed(f"can't kill the container's processes {pids[:5]}: they don't end")
        time.sleep(0.001)


def write(directory: str, file: str, text: str) -> None:
    """Write a control file, or what stands for it on a kernel that lacks it."""
    try:
        cgroupfs.write(directory, file, text)
    except SyscallError as e:
        from sampan.runtime import realtime
        from sampan.runtime.cgroups import instead, may_be_missing  # who only kills or removes does without it

        if e.errno == errno.EINVAL and file == realtime.RUNTIME:
            realtime.write(directory, text)
            return
        if e.errno != errno.ENOENT or not may_be_missing(file) or not os.path.isdir(directory):
            raise
        if other := instead(file, text):
            cgroupfs.write(directory, *other)


def check_usage(cgroups: Cgroups, limit_bytes: int) -> None:
    """Refuse a memory limit below what is used: v2 would kill for it; `memory.checkBeforeUpdate`."""
    if limit_bytes <= 0 or (group := dict(cgroups).get("")) is None:
        return
    used = int(cgroupfs.read(group, "memory.current"))
    if limit_bytes < used:
        raise Conflict(
            f"can't limit memory to {limit_bytes}: {used} bytes are in use", "free memory, or set checkBeforeUpdate off"
        )


def update(cgroups: Cgroups, writes: Iterable[tuple[str, str, str]]) -> None:
    """Change limits: (controller, file, text) as `cgroups.writes` gives them.

    The kernel refuses an order in which, for a moment, memory exceeds memory and swap: what is refused is tried again
    after the others.
    """
    waiting = list(writes)
    while waiting:
        refused = []
        for controller, file, text in waiting:
            group = directory(cgroups, controller)
            if group is None:
                raise Unsupported(f"can't set {file}: the container has no {controller} control group")
            try:
                write(group, file, text)
            except OSError as e:
                if e.errno not in {errno.EINVAL, errno.EBUSY}:
                    with doing(f"can't set {file} to {text}"):
                        raise
                refused.append(((controller, file, text), e))
        if len(refused) == len(waiting):
            (_, file, text), error = refused[0]
            with doing(f"can't set {file} to {text}", "the kernel refuses a limit below what is in use"):
                raise error
        waiting = [write for write, _ in refused]


def oom_kills(cgroups: Cgroups) -> int:
    """Count the processes that the kernel has killed because the container was at its memory limit."""
    if (group := dict(cgroups).get("")) is not None:
        file = "memory.events"
    elif (v1 := directory(cgroups, "memory")) is not None:
        group, file = v1, "memory.oom_control"
    else:
        return 0
    try:
        return cgroupfs.flat_keyed(cgroupfs.read(group, file)).get("oom_kill", 0)
    except FileNotFoundError:
        return 0


def remove(cgroups: Cgroups) -> None:
    """Remove the container's groups; whoever is left in them is killed first. Those that are gone are no error."""
    if not any(os.path.isdir(d) for _, d in cgroups):
        return
    kill_everyone(cgroups)
    for _, group in cgroups:
        with doing(f"can't remove the control group {group}"):
            cgroupfs.remove(group, timeout_s=_KILL_WITHIN_S)  # v2 kills and does not wait for the ends
