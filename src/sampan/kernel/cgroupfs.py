"""Control groups as the directories and files that they are; cgroups(7)."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import SyscallError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sampan.kernel.mount import MountInfo


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class CgroupMount(NamedTuple):
    """A mounted hierarchy: a v1 controller (or "name=systemd") or, for v2, controller ""."""

    controller: str
    mount_point: str
    root: str  # the cgroup that is seen at the mount point; "/" unless in a cgroup namespace


V1_CONTROLLERS = frozenset({
    "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "net_cls", "net_prio",
    "perf_event", "pids", "rdma",
})  # fmt: skip


def mounts() -> list[CgroupMount]:
    """List the hierarchies that this process sees, one record for each controller, at the first place it is mounted."""
    from sampan.kernel.mount import mountinfo  # here: it takes ctypes, which nothing else of this module does

    return cgroup_mounts(mountinfo())


def cgroup_mounts(mounts: Iterable[MountInfo]) -> list[CgroupMount]:
    """Find the hierarchies among mounts."""
    found: dict[str, CgroupMount] = {}
    for m in mounts:
        if m.fstype == "cgroup2":
            controllers = [""]
        elif m.fstype == "cgroup":
            controllers = [o for o in m.super_options if o in V1_CONTROLLERS or o.startswith("name=")]
        else:
            continue
        for c in controllers:
            found.setdefault(c, CgroupMount(c, m.mount_point, m.root))
    return list(found.values())


def parse_cgroup(text: str) -> dict[str, str]:
    """Parse /proc/PID/cgroup: the path in each hierarchy by controller, v2's by ""."""
    found = {}
    for line in text.split("\n"):
        if line:
            _, controllers, path = line.split(":", 2)
            found.update(dict.fromkeys(controllers.split(","), path))
    return found


def of_process(pid: int | str = "self") -> dict[str, str]:
    """Return the path of a process's cgroup in each hierarchy, by controller; v2's by ""."""
    with open(f"/proc/{pid}/cgroup", "rb") as file:
        return parse_cgroup(os.fsdecode(file.read()))


def make(directory: str) -> None:
    """Make a group and those above it that are missing; one that is there stays."""
    os.makedirs(directory, 0o755, exist_ok=True)


def inherit_cpuset(directory: str) -> None:
    """Give a v1 group the processors and memory nodes of the one above, where it is new: so it takes no process."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        if not read(directory, file).strip():
            write(directory, file, read(os.path.dirname(directory), file).strip())


def remove(directory: str, *, timeout_s: float = 2.0) -> None:
    """Remove a group and those below it; the kernel answers EBUSY for a moment after its last process has gone."""
    deadline = time.monotonic() + timeout_s
    wait_s = 0.001
    while True:
        try:
            _remove_tree(directory)
            return
        except OSError as e:
            if e.errno == errno.ENOENT and not os.path.isdir(directory):  # else another removes some below it, too
                return
            if e.errno not in {errno.EBUSY, errno.ENOENT} or time.monotonic() >= deadline:
                raise SyscallError(e.errno or errno.EIO, "rmdir", directory) from None
        time.sleep(wait_s)
        wait_s = min(wait_s * 2, 0.05)


def _remove_tree(directory: str) -> None:
    """Try the group alone first: nearly none has groups below, and listing a directory of control files costs more."""
    try:
        os.rmdir(directory)
    except OSError as e:
        alone = True
        for above, name in _below(directory):
            alone = False
            os.rmdir(name, dir_fd=above)
        if alone:
            raise e from None
        os.rmdir(directory)


def _below(directory: str) -> Iterator[tuple[int, str]]:
    """Yield each group below one, the lower ones first: a descriptor of the group above it, and its name there.

    A container that may arrange groups of its own can have them deeper than a path is long, and than a stack goes.
    """
    here = os.open(directory, _DIRECTORY)
    way: list[str] = []
    try:
        left = [_names(here)]
        while left[-1] or way:
            if left[-1]:
                name = left[-1].pop()
                with suppress(FileNotFoundError):
                    here = _moved(here, name)
                    way.append(name)
                if len(way) == len(left):
                    left.append(_names(here))
            else:
                here = _moved(here, "..")
                left.pop()
                yield here, way.pop()
    finally:
        os.close(here)


def _names(group: int) -> list[str]:
    with os.scandir(group) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _moved(group: int, to: str) -> int:
    there = os.open(to, _DIRECTORY, dir_fd=group)
    os.close(group)
    return there


def write(directory: str, file: str, text: str) -> None:
    """Write a control file, all in one call, which is how the kernel takes it. Of a group that is gone: ENOENT."""
    path = f"{directory}/{file}"
    # Not O_CREAT: a file that is missing means that the kernel lacks it.
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, os.fsencode(text))
        finally:
            os.close(fd)
    except OSError as e:
        gone = e.errno == errno.ENODEV and not os.path.isdir(directory)  # since it was opened; else it is about a disk
        raise SyscallError(errno.ENOENT if gone else e.errno or errno.EIO, "write", f"{text!r} to {path}") from None


def read(directory: str, file: str) -> str:
    """Read a control file, as it is. Raises FileNotFoundError also where the group goes while it is read."""
    path = f"{directory}/{file}"
    try:
        with open(path, "rb", buffering=0) as stream:
            return os.fsdecode(stream.readall())
    except OSError as e:
        if e.errno != errno.ENODEV:
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None


def add_process(directory: str, pid: int) -> None:
    """Move a process into a group; 0 is this one."""
    write(directory, "cgroup.procs", str(pid))


def processes(directory: str) -> list[int]:
    """List the processes of a group, not of those below it."""
    return [int(line) for line in read(directory, "cgroup.procs").split()]


def processes_below(directory: str) -> list[int]:
    """List the processes of a group and of those below it."""
    found = []
    with suppress(OSError):  # it has gone meanwhile, or is of threads: cgroups(7)
        found += processes(directory)
    with suppress(FileNotFoundError):
        for above, name in _below(directory):
            with suppress(OSError):
                found += processes(f"/proc/self/fd/{above}/{name}")
    return found


def flat_keyed(text: str) -> dict[str, int]:
    """Parse a file of `key number` lines: memory.stat, cgroup.events, memory.events, cpu.stat, memory.oom_control."""
    pairs = (line.split(" ", 1) for line in text.split("\n") if " " in line)
    return {key: int(value) for key, value in pairs if value.lstrip("-").isdigit()}


def populated(directory: str) -> bool:
    """Say whether any process is in a group or, for v2, below it."""
    try:
        events = read(directory, "cgroup.events")
    except FileNotFoundError:
        return bool(processes(directory))
    return flat_keyed(events).get("populated") == 1
