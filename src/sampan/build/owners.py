"""`--chown`: whose files become, by the names in the image's own passwd and group, read plainly."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.build.trees import real
from sampan.errors import InvalidInput, doing

if TYPE_CHECKING:
    from sampan.build.trees import Tree

_LARGEST = 2**32 - 2
_MOST_BYTES = 1 << 20  # of passwd and group


def look_up(owner: str, image: Tree | None) -> tuple[int, int]:
    """Return uid and gid of `user[:group]`.

    A number alone is the group's too, a name alone has the group that passwd says; as in BuildKit,
    solver/llbsolver/ops/opsutils. But a name that is not there is an error, as in Docker's classic builder.
    """
    user, colon, group = owner.partition(":")
    uid = gid = 0
    if user.isdecimal():
        uid = gid = _number(user, owner)
    elif user:
        fields = _find(image, "etc/passwd", user, 4)
        if fields is None:
            raise InvalidInput(
                f"can't find uid for user {user}: no such user: {user}",
                "give a number, or a name that is in the image's /etc/passwd",
            )
        uid, gid = _number(fields[2], owner), _number(fields[3], owner)
    if group.isdecimal():
        gid = _number(group, owner)
    elif group:
        fields = _find(image, "etc/group", group, 3)
        if fields is None:
            raise InvalidInput(
                f"can't find gid for group {group}: no such group: {group}",
                "give a number, or a name that is in the image's /etc/group",
            )
        gid = _number(fields[2], owner)
    if not user and not (colon and group):
        raise InvalidInput(f"invalid owner {owner!r}", "--chown=user, user:group or :group, names or numbers")
    return uid, gid


def _number(text: str, owner: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > _LARGEST:
        raise InvalidInput(f"can't use owner {owner[:100]}: {text[:20]} is no uid or gid")
    return int(text)


def _find(image: Tree | None, path: str, name: str, count: int) -> list[str] | None:
    """Return the fields of the first line that has this name, if it has enough of them."""
    if image is None:
        return None
    with doing(f"can't read the image's /{path}"):
        try:
            fd = image.open(real(image, path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            text = os.read(fd, _MOST_BYTES).decode("latin-1")
        finally:
            os.close(fd)
    wanted = name.encode(errors="surrogateescape").decode("latin-1")
    lines = (line.split(":") for line in text.split("\n") if line[:1] not in {"#", "+", "-", ""})
    return next((fields for fields in lines if fields[0] == wanted and len(fields) >= count), None)
