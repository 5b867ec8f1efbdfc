"""Time for real-time processes, which v1 groups hand down; imported only where a plan asks for some."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from sampan.errors import Conflict, SyscallError
from sampan.kernel import cgroupfs

if TYPE_CHECKING:
    from sampan.runtime import ops

_SECOND_US = 1_000_000
RUNTIME, _PERIOD = "cpu.rt_runtime_us", "cpu.rt_period_us"
_RELEASED_WITHIN_S = 5.0


def grant(op: ops.GrantRealtime) -> None:
    """Let each group have what those in it have, and the share: what groups had that are gone is used again."""
    wanted = []
    share, inner = op.share_us, ""
    for directory in reversed(op.directories):
        others = sum(_share(below) for below in _below(directory) if below != inner)
        share = max(_share(directory), others + share)
        wanted.append((directory, share))
        inner = directory
    for directory, amount in reversed(wanted):
        try:
            write(directory, str(amount * _period(directory) // _SECOND_US))
        except SyscallError as e:
            if e.errno != errno.EINVAL:
                raise
            raise Conflict(
                f"can't give {directory} {amount} µs of each second for real-time processes: others have them",
                "all together have what kernel.sched_rt_runtime_us says",
            ) from None


def write(directory: str, text: str) -> None:
    """Give a group its part; wait until the kernel has let go of that of groups which have just been removed.

    rmdir(2) returns before: sched_release_group waits for RCU.
    """
    deadline = time.monotonic() + _RELEASED_WITHIN_S
    while True:
        try:
            cgroupfs.write(directory, RUNTIME, text)
        except SyscallError as e:
            if e.errno != errno.EINVAL or not _fits(directory, int(text)) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _fits(directory: str, runtime_us: int) -> bool:
    """Tell whether the group that it is in has so much that no other group in it has."""
    parent = os.path.dirname(directory)
    others = sum(_share(below) for below in _below(parent) if below != directory)
    return 0 <= others + runtime_us * _SECOND_US // _period(directory) <= _share(parent)


def _below(directory: str) -> list[str]:
    return [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]


def _period(directory: str) -> int:
    return int(cgroupfs.read(directory, _PERIOD))


def _share(directory: str) -> int:
    """Return the microseconds of each second that a group has; none where it has just gone."""
    try:
        return -(-int(cgroupfs.read(directory, RUNTIME)) * _SECOND_US // _period(directory))
    except FileNotFoundError:
        return 0
