"""Ids of the host that containers' users are: whose they are, and which are free. Pure but for the reading of files.

They are those of /etc/subuid and /etc/subgid for the user whom `[userns] ids-of` names, as Docker and Podman have it.
Where that user has none, they come from a part of the number space that useradd(8) gives to nobody (SUB_UID_MAX is
600,100,000) and that systemd sets aside for containers (up to 1,879,048,191).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import Failed, InvalidInput, doing
from sampan.spec.runtime import IdMapping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.engine.user_modes import Kind, Maps

_OURS = (1_000_000_000, 879_048_192)
_FILES: dict[Kind, str] = {"uid": "/etc/subuid", "gid": "/etc/subgid"}


class Range(NamedTuple):
    """Ids from `start`, so many."""

    start: int
    size: int


def of_user(name: str, kind: Kind, *, must: bool = False) -> tuple[Range, ...]:
    """Return the ids that a user was given, in the file's order; with `must` there have to be some, else ours."""
    path = _FILES[kind]
    with doing(f"can't read {path}"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except FileNotFoundError:
            text = ""
    found = read(text, {name, _number_of(name)})
    if not found and must:
        raise InvalidInput(f"can't map ids: {path} has none for {name}", f"usermod --add-sub{kind}s FIRST-LAST {name}")
    return found or (Range(*_OURS),)


def _number_of(name: str) -> str:
    import pwd

    try:
        return str(pwd.getpwnam(name).pw_uid)
    except KeyError:
        return name


def read(text: str, owners: set[str]) -> tuple[Range, ...]:
    """Return the rows of subuid(5) that are somebody's. What is no such row is passed over, as by newuidmap(1)."""
    found = []
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) == 3 and parts[0] in owners and parts[1].isdecimal() and parts[2].isdecimal():
            start, size = int(parts[1]), int(parts[2])
            if size > 0 and start > 0 and start + size < 1 << 32:
                found.append(Range(start, size))
    return tuple(found)


def first(ranges: Iterable[Range], size: int) -> Maps:
    """Map the container's ids from 0 on to the first of the ranges, one after another, as Docker does."""
    rows, inner = [], 0
    for start, length in ranges:
        taken = min(length, size - inner)
        if taken > 0:
            rows.append(IdMapping(container_id=inner, host_id=start, size=taken))
            inner += taken
    return tuple(rows)


def free(ranges: Iterable[Range], taken: Iterable[Range], size: int, reserved: int) -> int:
    """Return the first of so many ids that nobody has; the first `reserved` of all are shared. Raises Failed."""
    used = sorted(taken)
    for start, length in ranges:
        skipped = min(reserved, length)
        reserved -= skipped
        at, end = start + skipped, start + length
        for other in used:
            if other.start >= at + size:
                break
            at = max(at, other.start + other.size)
        if at + size <= end:
            return at
    raise Failed(
        f"can't find {size} ids that no other container has",
        "remove containers, ask for fewer (--userns=auto:size=4096), or give more in /etc/subuid and /etc/subgid",
    )
