"""What is wrong with a Dockerfile, and where: BuildKit's wording, the lines around, a caret, the nearest word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sampan.build.dockerfile.text import go_quoted, mended
from sampan.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.build.dockerfile.ast import Location

_WIDEST = 200
_LONGEST = 64
_LONGEST_CAUSE = 1000
_TOO_FAR = 3


class Fault(Exception):
    """One thing that is wrong, found where lines aren't known; `near` is the word that is to be marked.

    `parse` makes a DockerfileError of it.
    """

    def __init__(self, cause: str, near: str = "", hint: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.near = near
        self.hint = hint


class DockerfileError(InvalidInput):
    """A Dockerfile that can't be used. The message's first line says what; the file's lines with a caret follow.

    `cause` is that first line without file and line number, `location` the lines.
    """

    def __init__(self, message: str, hint: str = "", *, cause: str = "", location: Location | None = None) -> None:
        super().__init__(message, hint)
        self.cause = cause or message
        self.location = location


def dockerfile_error(fault: Fault, name: str, source: str, location: Location) -> DockerfileError:
    """Put a fault into its file."""
    cause = mended(fault.cause if len(fault.cause) <= _LONGEST_CAUSE else fault.cause[:_LONGEST_CAUSE] + "…")
    message = f"can't parse {name}: dockerfile parse error on line {location.start}: {cause}"
    message += "\n" + excerpt(source, name, location, fault.near)
    return DockerfileError(message, mended(fault.hint), cause=cause, location=location)


def quoted(text: str) -> str:
    """Put a text into double quotes as Go's %q does, shortened."""
    return go_quoted(text if len(text) <= _WIDEST else text[:_WIDEST] + "…")


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean …?)` for the nearest of the known words, or nothing."""
    near = nearest(word, known)
    return f" (did you mean {near}?)" if near else ""


def nearest(word: str, known: Iterable[str], *, any_case: bool = True) -> str:
    """Return the first of the known words that differs least, by two edits at most, as BuildKit does; "" for none."""
    if len(word) > _LONGEST:
        return ""
    same = str.lower if any_case else str
    distances = [(_distance(same(each), same(word)), each) for each in known]
    least, near = min(distances, key=lambda pair: pair[0], default=(_TOO_FAR, ""))
    return near if least < _TOO_FAR and near != word else ""


def _distance(first: str, second: str) -> int:
    """Levenshtein's: insertions, deletions and substitutions; _TOO_FAR for anything beyond."""
    if abs(len(first) - len(second)) >= _TOO_FAR:
        return _TOO_FAR
    row = list(range(len(second) + 1))
    for number, letter in enumerate(first, 1):
        before, row[0] = row[0], number
        for at, other in enumerate(second, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (letter != other))
    return min(row[-1], _TOO_FAR)


def excerpt(source: str | Sequence[str], name: str, location: Location, near: str = "") -> str:
    """Show the lines around a location, those of it marked, in BuildKit's form; a caret under the word `near`.

    `source` is a file's text, or its lines, for those who want many.
    """
    lines = source.split("\n") if isinstance(source, str) else source
    around = 2 if location.start == location.end else 1  # BuildKit's
    first = max(1, location.start - around)
    last = min(len(lines), location.end + around)
    marked = _place(lines, location, near)
    shown = [f"{name}:{location.start}", "-" * 20]
    for number in range(first, last + 1):
        sign = ">>>" if location.start <= number <= location.end else "   "
        shown.append(f"{number:4} | {sign} {_printable(lines[number - 1])}".rstrip())
        if marked and marked[0] == number:
            shown.append(" " * 11 + " " * marked[1] + "^" * marked[2])
    return "\n".join([*shown, "-" * 20])


def _place(lines: Sequence[str], location: Location, near: str) -> tuple[int, int, int] | None:
    """Find the word in its lines: line number, column in the line as printed, length."""
    near = near.split("\n", 1)[0][:_WIDEST]
    numbers = range(location.start, min(location.end, len(lines)) + 1)
    for pattern in (rf"(?<![\w-]){re.escape(near)}(?![\w-])", re.escape(near)) if near else ():
        for number in numbers:
            found = re.search(pattern, lines[number - 1][:_WIDEST])
            if found:
                return number, len(_printable(lines[number - 1][: found.start()])), max(1, len(_printable(found[0])))
    return None


def _printable(line: str) -> str:
    """Make a line safe for a terminal: a hostile file must not send it commands."""
    text = "".join(c if c.isprintable() else "\\" + f"x{ord(c):02x}" for c in line.rstrip("\r")[:_WIDEST].expandtabs(4))
    return text + "…" if len(line) > _WIDEST else text
