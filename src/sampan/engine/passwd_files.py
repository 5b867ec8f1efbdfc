"""`--hostuser`, `--passwd-entry`, `--group-entry`: /etc/passwd and /etc/group with more lines than the image's.

They are files of the container's own, bound there as /etc/hosts is: no image gets them. With `--userns=keep-id` the
caller has a line, too.
"""

from __future__ import annotations

import pwd
from string import Template
from typing import TYPE_CHECKING

from sampan.engine import files
from sampan.engine.owning import image_file
from sampan.errors import InvalidInput, doing
from sampan.runtime.passwd import look_up
from sampan.spec.annotations import GROUP_ENTRY, HOSTUSERS, PASSWD_ENTRY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.spec.docker import ContainerCreate
    from sampan.spec.image import Rootfs

NAMES = ("passwd", "group")
_KEPT = "$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh"


def are_asked(body: ContainerCreate) -> bool:
    """Tell whether a container has such files."""
    annotations = body.host_config.annotations or {}
    return _keeps_id(body) or any(name in annotations for name in (HOSTUSERS, PASSWD_ENTRY, GROUP_ENTRY))


def _keeps_id(body: ContainerCreate) -> bool:
    return body.host_config.userns_mode.partition(":")[0] == "keep-id"


def write(body: ContainerCreate, rootfs: Rootfs, directory: str) -> None:
    """Write them out of the image's. Raises InvalidInput for a user of the host who is not there."""
    with doing("can't add users"):
        passwd, group = (image_file(rootfs, f"etc/{name}") for name in NAMES)
        annotations = body.host_config.annotations or {}
        user = look_up(body.user, passwd, group)
        names = [name for name in annotations.get(HOSTUSERS, "").split(",") if name]
        entry = annotations.get(PASSWD_ENTRY, _KEPT if _keeps_id(body) else "")
        who = _name(user.uid)
        filled = Template(entry).safe_substitute(
            USERNAME=who, NAME=who, UID=user.uid, GID=user.gid, HOME=body.working_dir or "/"
        )
        groups = Template(annotations.get(GROUP_ENTRY, "")).safe_substitute(GROUPNAME=who, GID=user.gid, USERLIST=who)
        files.put(f"{directory}/passwd", with_lines(passwd, (*map(_of_host, names), filled)))
        files.put(f"{directory}/group", with_lines(group, (groups,)))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _of_host(name: str) -> str:
    try:
        found = pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise InvalidInput(f"this machine has no user {name}", "--hostuser takes a name or a number") from None
    return f"{found.pw_name}:*:{found.pw_uid}:{found.pw_gid}:{found.pw_gecos}:{found.pw_dir}:{found.pw_shell}"


def with_lines(before: bytes, lines: Iterable[str]) -> str:
    """Return a file with lines added, but for those whose name or number it has."""
    text = before.decode(errors="surrogateescape")
    text += "\n" * bool(text and not text.endswith("\n"))
    for line in filter(None, lines):
        if "\n" in line or "\0" in line:
            raise InvalidInput(f"{line[:80]!r} is no line of /etc/passwd or /etc/group")
        there = [fields for each in text.splitlines() if len(fields := each.split(":")) > 2]
        new = line.split(":")
        if not any(new[0] == old[0] or new[2:3] == old[2:3] for old in there):
            text += f"{line}\n"
    return text
