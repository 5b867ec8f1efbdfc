"""`:idmap` of a bind or volume: other owners for its files than those on the disk, in Podman's words. Pure.

`idmap` alone is the container's own user namespace's mapping. `idmap=uids=0-1000-1#1-2000-10;gids=0-100-1` says it: ids
on the disk, as which they show, how many. After an `@` the second number is one in the container's user namespace.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput
from sampan.spec.runtime import IdMapping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.spec.runtime import Linux, Mount

    Mappings = tuple[IdMapping, ...]

_RANGE = re.compile(r"(@?)([0-9]{1,10})-(@?)([0-9]{1,10})-([0-9]{1,10})")
_END = 2**32 - 1
_HINT = "write it as idmap=uids=DISK-SHOWN-COUNT;gids=DISK-SHOWN-COUNT, more ranges after #"


def check(word: str) -> None:
    """Raise InvalidInput for what is no `idmap` or `idmap=…`."""
    _parse(word)


def mapping(word: str, target: str, container: tuple[Mappings, Mappings]) -> tuple[Mappings, Mappings]:
    """Return the mappings of users and of groups: `container_id` on the disk, `host_id` as the kernel shows it.

    `container` are those of the container's user namespace, none if that is the host's.
    """
    uids, gids = _parse(word)
    if uids:
        return _absolute(uids, container[0]), _absolute(gids, container[1])
    if not all(container):
        raise InvalidInput(f"can't map the ids of {target}: the container has the host's user namespace", _HINT)
    return container


def _parse(word: str) -> tuple[list[tuple[bool, IdMapping]], list[tuple[bool, IdMapping]]]:
    name, equals, text = word.partition("=")
    found: dict[str, list[tuple[bool, IdMapping]]] = {}
    for part in text.split(";") if equals else ():
        kind, _, ranges = part.partition("=")
        if kind not in ("uids", "gids") or kind in found:
            raise InvalidInput(f"invalid mode: {word}", _HINT)
        found[kind] = [_range(each, word) for each in ranges.split("#")]
    if name != "idmap" or (equals and len(found) != 2):
        raise InvalidInput(f"invalid mode: {word}", _HINT)
    return found.get("uids", []), found.get("gids", [])


def _range(text: str, word: str) -> tuple[bool, IdMapping]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InvalidInput(f"invalid mode: {word}", _HINT)
    disk, shown, count = int(match[2]), int(match[4]), int(match[5])
    if not count or disk + count > _END or shown + count > _END:
        raise InvalidInput(f"invalid mode: {word}: {text} is no range of ids", _HINT)
    return bool(match[1] or match[3]), IdMapping(container_id=disk, host_id=shown, size=count)


def _absolute(given: Iterable[tuple[bool, IdMapping]], container: Mappings) -> Mappings:
    result = []
    for relative, each in given:
        host_id = to_host(each.host_id, container) if relative else each.host_id
        result.append(IdMapping(container_id=each.container_id, host_id=host_id, size=each.size))
    return tuple(result)


def to_host(id: int, mappings: Mappings) -> int:
    """Return the host's id of one in a user namespace of these mappings; none: it is the host's."""
    if not mappings:
        return id
    for each in mappings:
        if each.container_id <= id < each.container_id + each.size:
            return each.host_id + id - each.container_id
    raise InvalidInput(f"the container's user namespace has no id {id}")


def on_disk(id: int, mount: Mount, linux: Linux, *, group: bool) -> int:
    """Return the id that a file of this mount has on the disk for its owner to be `id` in the container."""
    container = linux.gid_mappings if group else linux.uid_mappings
    own = mount.gid_mappings if group else mount.uid_mappings
    if "idmap" not in mount.options:
        return to_host(id, container)
    if not own:
        return id
    shown = to_host(id, container)
    for each in own:
        if each.host_id <= shown < each.host_id + each.size:
            return each.container_id + shown - each.host_id
    raise InvalidInput(f"the mount's mapping has no id that shows as {id}")
