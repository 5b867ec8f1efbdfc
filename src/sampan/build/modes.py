"""`--chmod`: an octal mode, or chmod(1)'s symbolic one."""

from __future__ import annotations

import re
from typing import NamedTuple

from sampan.errors import InvalidInput

_CLAUSE = re.compile(r"(?P<who>[ugoa]*)(?P<actions>(?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


class _Action(NamedTuple):
    who: str  # of u, g and o
    sign: str
    what: str


class Mode:
    """What `--chmod` says."""

    def __init__(self, text: str) -> None:
        """Read it; InvalidInput where it is neither."""
        self._octal: int | None = None
        self._actions: list[_Action] = []
        if re.fullmatch(r"[0-7]+", text):
            self._octal = int(text, 8)
            if self._octal <= 0o7777:
                return
        elif not text[:1].isdigit():
            self._actions = _actions(text)
            if self._actions:
                return
        raise InvalidInput(
            f"invalid chmod parameter: '{text[:100]}'. it should be octal string and between 0 and 07777",
            "or symbolic, as chmod(1) has it: u=rw,go=r",
        )

    def apply(self, mode: int, *, directory: bool) -> int:
        """Return what a file's mode becomes."""
        if self._octal is not None:
            return self._octal
        for action in self._actions:
            mode = _changed(mode, action, directory=directory)
        return mode

    def of_made_directory(self) -> int:
        """Return the mode of a directory that is made on the way: an octal one's permissions, else 0755."""
        return 0o755 if self._octal is None else self._octal & 0o777


def _actions(text: str) -> list[_Action]:
    actions = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            return []
        who = "ugo" if not match["who"] or "a" in match["who"] else match["who"]
        actions += [_Action(who, sign, what) for sign, what in _ACTION.findall(match["actions"])]
    return actions


def _changed(mode: int, action: _Action, *, directory: bool) -> int:
    """Do one action. Without umask: that of who builds is not the image's affair."""
    mask = bits = 0
    for who in action.who:
        shift = _SHIFTS[who]
        mask |= 7 << shift
        if action.what in _SHIFTS:
            bits |= (mode >> _SHIFTS[action.what] & 7) << shift
            continue
        for letter in action.what:
            if letter == "X":
                bits |= (1 << shift) if directory or mode & 0o111 else 0
            elif letter in _BITS:
                bits |= _BITS[letter] << shift
    if "s" in action.what:
        bits |= (0o4000 if "u" in action.who else 0) | (0o2000 if "g" in action.who else 0)
    if "t" in action.what:
        bits |= 0o1000
    if action.sign == "+":
        return mode | bits
    if action.sign == "-":
        return mode & ~bits
    special = (0o4000 if "u" in action.who else 0) | (0o2000 if "g" in action.who else 0)
    return mode & ~(mask | special | (0o1000 if action.who == "ugo" else 0)) | bits
