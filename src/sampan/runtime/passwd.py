"""Who a user is, from the text of the container's /etc/passwd and /etc/group: no NSS, which would load its libraries.

The rules are Docker's: `user[:group]`, either a name or a number. A number that no line has is taken as it is; a name
must be found. With a group given, the user's other groups don't count.
"""

from __future__ import annotations

from typing import NamedTuple

from sampan.errors import InvalidInput

_GREATEST = 2**32 - 2


class Identity(NamedTuple):
    """What a process becomes."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class _User(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def look_up(user: str, passwd: bytes, group: bytes, *, add: tuple[str, ...] = ()) -> Identity:
    """Find `user` (`name`, `uid`, `name:group`, …; empty is 0), and the groups named in `add`."""
    who, _, which = user.partition(":")
    found = _find_user(who or "0", passwd)
    if found is None and who.isascii() and who.isdecimal() and not _is_number(who):
        raise InvalidInput(f"uids and gids must be in range 0-{_GREATEST}")
    if found is None and not _is_number(who or "0"):
        raise InvalidInput(
            f"unable to find user {who}: no matching entries in passwd file",
            "give a number, or a name that is in the image's /etc/passwd",
        )
    entry = found or _User("", _number(who or "0"), 0, "/")
    groups = _groups(group)
    others: tuple[int, ...]
    if which:
        entry, others = entry._replace(gid=_gid(which, groups)), ()
    else:
        others = tuple(g.gid for g in groups if entry.name and entry.name in g.members)
    added = tuple(_gid(name, groups) for name in add)
    # The primary group is among the others too: a process that drops it must not lose what denies it. CVE-2022-36109.
    return Identity(entry.uid, entry.gid, tuple(dict.fromkeys((entry.gid, *others, *added))), entry.home or "/")


def of_number(
    uid: int, gid: int, groups: tuple[int, ...], passwd: bytes, group: bytes, add: tuple[str, ...]
) -> Identity:
    """Take ids as they are; passwd says only where home is, group only who is named in `add`."""
    found = _find_user(str(uid), passwd)
    table = _groups(group) if add else ()
    added = tuple(_gid(name, table) for name in add)
    return Identity(uid, gid, (*groups, *added), (found.home if found else "") or "/")


def _find_user(who: str, passwd: bytes) -> _User | None:
    """Find the first line that has `who` as its name or, in digits, as its uid."""
    for fields in _lines(passwd, 6):
        name, _, uid, gid, _, home = fields[:6]
        if _is_number(uid) and _is_number(gid) and (name == who or (_is_number(who) and int(uid) == int(who))):
            return _User(name, int(uid), int(gid), home)
    return None


def _groups(group: bytes) -> tuple[_Group, ...]:
    return tuple(
        _Group(f[0], int(f[2]), tuple(f[3].split(",")) if len(f) > 3 and f[3] else ())
        for f in _lines(group, 3)
        if _is_number(f[2])
    )


def _gid(which: str, groups: tuple[_Group, ...]) -> int:
    for g in groups:
        if g.name == which or (_is_number(which) and g.gid == int(which)):
            return g.gid
    if not _is_number(which):
        raise InvalidInput(
            f"unable to find group {which}: no matching entries in group file",
            "give a number, or a name that is in the image's /etc/group",
        )
    return _number(which)


def _lines(text: bytes, fields: int) -> list[list[str]]:
    """Split lines at colons. Latin-1 maps each byte to one character, so that no byte is wrong."""
    lines = (line.split(":") for line in text.decode("latin-1").split("\n") if line and line[0] not in "#+-")
    return [line for line in lines if len(line) >= fields]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _GREATEST


def _number(text: str) -> int:
    return int(text)
