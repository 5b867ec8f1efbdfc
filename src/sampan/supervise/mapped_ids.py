"""The users of a container in the numbers of the host, where it has a user namespace; and how to be its root."""

from __future__ import annotations

import os
from typing import NamedTuple

from sampan.errors import InvalidInput
from sampan.kernel import credentials

_EVERY = ((0, 0, (1 << 32) - 1),)
_NOBODY = 65534  # what a user namespace shows of who is not in it: proc(5), overflowuid

Rows = tuple[tuple[int, int, int], ...]


class Ids(NamedTuple):
    """Rows of user_namespaces(7): the first id inside, the first outside, how many."""

    users: Rows = _EVERY
    groups: Rows = _EVERY

    @property
    def differ(self) -> bool:
        """Whether any number means another user there."""
        return self != Ids()

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return who a user and a group of the host are in the container."""
        return _inside(self.users, uid), _inside(self.groups, gid)

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return who the container's are on the host. Raises InvalidInput for who is nobody there."""
        return _outside(self.users, uid, "user"), _outside(self.groups, gid, "group")


def _inside(rows: Rows, id: int) -> int:
    return next((first + id - start for first, start, count in rows if start <= id < start + count), _NOBODY)


def _outside(rows: Rows, id: int, kind: str) -> int:
    found = next((start + id - first for first, start, count in rows if first <= id < first + count), None)
    if found is None:
        raise InvalidInput(f"can't write what belongs to {kind} {id}: the container's user namespace has none")
    return found


def of_process(pid: int) -> Ids:
    """Return those of a process's user namespace."""
    return Ids(_rows(f"/proc/{pid}/uid_map"), _rows(f"/proc/{pid}/gid_map"))


def _rows(path: str) -> Rows:
    with open(path, "rb") as file:
        rows = (line.split() for line in file.read().splitlines())
        return tuple((int(inner), int(outer), int(count)) for inner, outer, count in rows)


def become_root_of(ids: Ids) -> None:
    """Be the container's root for what is made from now on, with all rights of the host's: its layers know no other."""
    uid, gid = ids.outside(0, 0)
    rights = credentials.capget()
    os.setegid(gid)
    os.seteuid(uid)
    credentials.capset(*rights)
