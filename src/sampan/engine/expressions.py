"""Regular expressions that clients write, searched for only where that is soon done. Pure.

Docker's, which are Go's, take time in proportion to the text. Python's try every way to share a text out among repeats,
of which there may be more than atoms in the world, and hold the interpreter's lock meanwhile: one request would be the
server's last. So the ways are counted before, for a text of that length; it is an upper bound.
"""

from __future__ import annotations

import re
from math import inf, log2
from typing import NamedTuple

from sampan.errors import InvalidInput

_LONGEST = 1024
_MOST_BITS = 26.0  # of the count of steps: less than a second
_COUNTED = re.compile(r"\{(\d*)(,?)(\d*)\}")
_UNCOUNTABLE = re.compile(r"\(\?#|\(\?[a-zA-Z]*x")
"""Comments, and where blanks are none: what follows repeats what is before them."""


class Malformed(ValueError):
    """It is no regular expression, and why."""


def found(expression: str, text: str) -> bool:
    """Tell whether an expression is found in a text. Raises Malformed; InvalidInput for what could take long."""
    compiled = _compiled(expression)
    if log2(len(text) + 1) + _bits(expression, len(text)) > _MOST_BITS:
        raise InvalidInput(
            f"can't look for {expression[:80]!r}: there are too many ways in which a text could match",
            "repeat nothing in which something is repeated, and have fewer repeats",
        )
    return compiled.search(text) is not None


def check(expression: str) -> None:
    """Raise what `found` would for most texts."""
    found(expression, "a" * 64)


def _compiled(expression: str) -> re.Pattern[str]:
    if len(expression) > _LONGEST:
        raise Malformed(f"longer than {_LONGEST} characters")
    try:
        return re.compile(expression)
    except re.error as e:
        raise Malformed(e.msg) from None
    except (RecursionError, OverflowError) as e:
        raise Malformed(str(e)) from None


class _Part(NamedTuple):
    """In how many ways it can match, as a power of two, and the least that it takes of a text."""

    bits: float
    shortest: int


def _bits(expression: str, length: int) -> float:
    if _UNCOUNTABLE.search(expression):
        return inf
    reader = _Reader(_bare(expression), length)
    bits = reader.alternatives().bits
    return bits if reader.is_at_end else inf


def _bare(expression: str) -> str:
    """Leave out `.*` at the ends: it makes no difference to a search, and is never tried twice."""
    if expression.startswith(".*") and expression[2:3] not in ("?", "+"):
        expression = expression[2:]
    return expression[:-2] if expression.endswith(".*") and expression[-3:-2] not in ("\\", "[") else expression


class _Reader:
    """Reads what `re` has found to be well-formed."""

    def __init__(self, text: str, length: int) -> None:
        self._text = text
        self._length = length
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        """Whether all is read."""
        return self._at >= len(self._text)

    def _take(self, count: int = 1) -> str:
        taken = self._text[self._at : self._at + count]
        self._at += count
        return taken

    def alternatives(self) -> _Part:
        """Read up to the end, or behind the parenthesis that closes this group."""
        branches, bits, shortest = [], 0.0, 0
        while (c := self._take()) not in ("", ")"):
            if c == "|":
                branches.append(_Part(bits, shortest))
                bits, shortest = 0.0, 0
                continue
            part = self._repeated(self._atom(c))
            bits += part.bits
            shortest += part.shortest
        branches.append(_Part(bits, shortest))
        most = max(branch.bits for branch in branches)
        if most < inf:
            most += log2(sum(2 ** (branch.bits - most) for branch in branches))
        return _Part(most, min(branch.shortest for branch in branches))

    def _atom(self, c: str) -> _Part:
        if c == "(":
            is_special = self._text.startswith("?", self._at)  # what follows it is read as letters, or as a group
            self._take(is_special)
            inner = self.alternatives()
            return _Part(inner.bits, 0) if is_special else inner
        if c == "[":
            self._set()
        elif c == "\\":
            self._take()
        return _Part(0.0, 0 if c in "^$\\" else 1)

    def _set(self) -> None:
        self._take(self._text.startswith("^", self._at))
        self._take(self._text.startswith("]", self._at))  # closes nothing here
        while (c := self._take()) not in ("", "]"):
            self._take(c == "\\")

    def _repeated(self, part: _Part) -> _Part:
        least, most = self._times()
        if self._text[self._at : self._at + 1] in ("?", "+") and (least, most) != (1, 1):
            self._take()
        times = min(most, self._length // part.shortest if part.shortest else self._length + 1)
        choices = log2(max(times - least, 0) + 1)
        return _Part(choices + (times * part.bits if part.bits else 0), part.shortest * least)

    def _times(self) -> tuple[int, int]:
        endless = self._length + 1
        c = self._text[self._at : self._at + 1]
        if c and c in "*+?":
            self._take()
            return {"*": (0, endless), "+": (1, endless), "?": (0, 1)}[c]
        counted = _COUNTED.match(self._text, self._at) if c == "{" else None
        if not counted or counted[0] in ("{}", "{,}"):
            return 1, 1
        self._at = counted.end()
        least = int(counted[1] or 0)
        most = (int(counted[3]) if counted[3] else endless) if counted[2] else least
        return min(least, endless), min(most, endless)
