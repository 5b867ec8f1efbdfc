"""Causes that the container's own words tell: its last output, looked at for what the kernel had answered. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sampan.spec.docker.why import Cause
from sampan.units import format_bytes_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.spec.docker import ContainerCreate
    from sampan.spec.ending import Ending, FullDisk

_NO_SPACE = re.compile(r"no space left on device|ENOSPC|disk quota exceeded", re.IGNORECASE)
_READ_ONLY = re.compile(r"read-only file system|EROFS", re.IGNORECASE)
_NO_MEMORY = re.compile(
    r"cannot allocate memory|\bENOMEM\b|\bMemoryError\b|OutOfMemoryError|std::bad_alloc", re.IGNORECASE
)
_PATH = re.compile(r"/[\w./@+-]+")


def short_of_room(body: ContainerCreate, ending: Ending, output: tuple[str, ...]) -> Iterator[Cause]:
    """Yield that a disk was full: by what was measured at the end, or by what the program said."""
    line = _line(_NO_SPACE, output) if ending.exit_code else ""
    for place in ("/dev/shm", *_tmpfs(body)):
        if line and _is_in(place, line):
            yield Cause(
                kind="disk-full",
                said=f"no room: {place} is memory of a fixed size, and was full",
                facts=(f"it said: {line}",),
                fixes=(_bigger(body, place),),
            )
            return
    if ending.full_disks:
        yield Cause(
            kind="disk-full",
            said="no room: the disk was full",
            facts=(*map(_measured, ending.full_disks), *([f"it said: {line}"] if line else ())),
            fixes=("see what can go: sampan system df, then sampan system prune",),
        )
    elif line:
        yield Cause(
            kind="disk-full",
            said="no room: it said that a disk was full",
            facts=(f"it said: {line}", "the disk of its files had room when it ended"),
            fixes=("look with df in it: what is mounted there may be full, or fs.inotify.max_user_watches reached",),
        )


def _measured(disk: FullDisk) -> str:
    what = "no inodes" if disk.inodes else format_bytes_binary(disk.free)
    return f"{disk.path} ({disk.holds}) had {what} left of {format_bytes_binary(disk.size)}"


def _tmpfs(body: ContainerCreate) -> Iterator[str]:
    yield from body.host_config.tmpfs or {}
    yield from (mount.target for mount in body.host_config.mounts or () if mount.type == "tmpfs")


def _bigger(body: ContainerCreate, place: str) -> str:
    if place == "/dev/shm":
        size = body.host_config.shm_size or 64 << 20
        return f"run it with --shm-size {2 * size >> 20}m (it has {format_bytes_binary(size)})"
    return f"run it with a larger one: --tmpfs {place}:size=…"


def _is_in(place: str, line: str) -> bool:
    return any(path == place or path.startswith(f"{place}/") for path in _PATH.findall(line))


def read_only(body: ContainerCreate, output: tuple[str, ...]) -> Iterator[Cause]:
    """Yield that it wanted to write where it may not."""
    line = _line(_READ_ONLY, output)
    if not line:
        return
    paths = _PATH.findall(line)
    where = paths[-1].rstrip(".") if paths else "PATH"
    if body.host_config.readonly_rootfs:
        directory = where.rpartition("/")[0] or where
        fix = f"give it room to write there: --tmpfs {directory}, or -v NAME:{directory}"
    else:
        fix = "what it wanted to write is mounted read-only: leave out `ro` where that is mounted"
    yield Cause(kind="read-only", said=f"it may not write to {where}", facts=(f"it said: {line}",), fixes=(fix,))


def no_memory(output: tuple[str, ...]) -> str:
    """Return what it said of memory that it could not get; "" where nothing."""
    return _line(_NO_MEMORY, output)


def _line(wanted: re.Pattern[str], output: tuple[str, ...]) -> str:
    return next((line for line in reversed(output) if wanted.search(line)), "")
