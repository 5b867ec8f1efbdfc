"""Causes that the container's own words tell: its last output, looked at for what the kernel had answered. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sampan.engine.causes_told import is_in
from sampan.spec.docker.why import Cause
from sampan.units import format_bytes_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.spec.docker import ContainerCreate
    from sampan.spec.ending import Ending, FullDisk

_NO_SPACE = re.compile(r"no space left on device|ENOSPC|disk quota exceeded", re.IGNORECASE)
_NO_MEMORY = re.compile(
    r"can(?:no|')t allocate memory|\bENOMEM\b|\b(?:No)?MemoryError\b|std::bad_alloc|out of memory|memory exhausted|"
    r"OutOfMemoryError(?!: unable to create)|Allowed memory size of|memory allocation of \d+ bytes failed",
    re.IGNORECASE,
)
# What a program's own heap allows, which is less than the container's limit: (words, whose, how it gets more).
_HEAPS = (
    (
        re.compile(r"OutOfMemoryError: (?:Java heap space|GC overhead)", re.IGNORECASE),
        "the heap of Java was full, which is a quarter of the memory if nobody says otherwise",
        "run it with -e JAVA_TOOL_OPTIONS=-XX:MaxRAMPercentage=75, or -Xmx",
    ),
    (
        re.compile(r"OutOfMemoryError: (?:Metaspace|Compressed class space)", re.IGNORECASE),
        "Java's room for classes was full",
        "run it with -e JAVA_TOOL_OPTIONS=-XX:MaxMetaspaceSize=…",
    ),
    (
        re.compile(r"JavaScript heap out of memory", re.IGNORECASE),
        "the heap of Node.js was full",
        "run it with -e NODE_OPTIONS=--max-old-space-size=… (MiB)",
    ),
    (
        re.compile(r"Allowed memory size of \d+ bytes", re.IGNORECASE),
        "the memory that PHP allows itself was used up",
        "set a higher memory_limit in php.ini, or by php -d memory_limit=…",
    ),
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
                from_output=True,
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
        yield _full_by_words(line)


def _full_by_words(line: str) -> Cause:
    if "watch" in line.lower():
        what, fact = "it may watch no more files: inotify has no room on this host", ""
        fix = "on the host: sysctl -w fs.inotify.max_user_watches=524288"
    else:
        what, fact = "a disk was full", "the disk of its files had room when it ended"
        fix = "look with df in it: what is mounted there may be full"
    return Cause(
        kind="disk-full",
        said=f"its last lines say that {what}",
        facts=(f"it said: {line}", *filter(None, [fact])),
        fixes=(fix,),
        from_output=True,
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
    return any(is_in(place, path) for path in _PATH.findall(line))


def no_memory(output: tuple[str, ...]) -> str:
    """Return what it said of memory that it could not get; "" where nothing."""
    return _line(_NO_MEMORY, output)


def full_heap(line: str) -> tuple[str, str] | None:
    """Return whose heap was full by its own words, and how it gets more; None where it is no limit of its own."""
    return next(((whose, fix) for words, whose, fix in _HEAPS if words.search(line)), None)


def _line(wanted: re.Pattern[str], output: tuple[str, ...]) -> str:
    return next((line for line in reversed(output) if wanted.search(line)), "")
