"""Patterns of `.dockerignore`, `--exclude` and `--parents`: Docker's rules exactly, moby/patternmatcher's.

A pattern matches the whole of a path below the root, or of a directory above it. `*` and `?` stop at slashes, `**` does
not; of several patterns the last that matches wins, and one that begins with `!` takes a path in again.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Above = tuple[bool, ...]  # for each pattern whether it matches the directory that a path is in

_BOM = "\ufeff"
_SPECIAL = re.compile(r"[*?\[\]\\]")


def parse(text: str) -> tuple[str, ...]:
    """Read a `.dockerignore`: a pattern a line, relative to the root however it is written; `#` begins a comment."""
    patterns = []
    for line in text.removeprefix(_BOM).split("\n"):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        inverted = pattern.startswith("!")
        if inverted:
            pattern = pattern[1:].strip()
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        patterns.append("!" + pattern if inverted else pattern)
    return tuple(patterns)


class Matcher:
    """Tells which paths some patterns match. Raises InvalidInput for one that can't be read."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns: list[_Pattern] = []
        for given in patterns:
            text = given.strip()
            if text:
                self._patterns.append(_Pattern(_clean(text), given))
        self.has_exceptions = any(pattern.inverted for pattern in self._patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def match(self, path: str, above: Above = ()) -> tuple[bool, Above]:
        """Tell whether a path matches, and what to pass on as `above` for what is in it.

        `above` is that of the directory that it is in; without it those above the path are looked at one by one.
        """
        matched = False
        each = []
        for index, pattern in enumerate(self._patterns):
            found = above[index] if above else False
            if not found and pattern.inverted == matched:
                found = pattern.match(path)
                if not found and not above:
                    found = any(pattern.match(parent) for parent in _parents(path))
            each.append(found)
            if found:
                matched = not pattern.inverted
        return matched, tuple(each)

    def may_take_in_again(self, directory: str) -> bool:
        """Tell whether something below a directory that matches may not match: else nobody need look into it."""
        return self.has_exceptions and any(p.inverted and p.may_match_below(directory) for p in self._patterns)

    def may_match_below(self, directory: str) -> bool:
        """Tell whether something below a directory that does not match may match."""
        return any(not p.inverted and p.may_match_below(directory) for p in self._patterns)


class _Pattern:
    __slots__ = ("_match", "_start", "inverted")

    def __init__(self, text: str, given: str) -> None:
        self.inverted = text.startswith("!")
        if self.inverted:
            text = text[1:]
        if not text:
            raise InvalidInput('illegal exclusion pattern: "!"')
        check(text, given)
        self._match = _compiled(text, given)
        self._start = _literal_start(text)

    def match(self, path: str) -> bool:
        return self._match(path)

    def may_match_below(self, directory: str) -> bool:
        """Tell whether it may match below: not if it begins with the names of other directories."""
        names = directory.split("/")
        return all(mine == theirs for mine, theirs in zip(self._start, names, strict=False))


def check(pattern: str, given: str = "") -> None:
    """Raise InvalidInput where Go's filepath.Match would say that a pattern is malformed."""
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "[":
            at = _end_of_class(pattern, at, given or pattern)
        elif character == "\\":
            at += 2
            if at > len(pattern):
                raise _malformed(given or pattern)
        else:
            at += 1


def component(pattern: str) -> re.Pattern[str]:
    """Compile one component of a wildcard as filepath.Match reads it: `*`, `?`, `[a-z]`, `[^a]`, and backslashes."""
    check(pattern)
    text = ""
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "[":
            end = _end_of_class(pattern, at, pattern)
            text += _class(pattern[at + 1 : end - 1])
            at = end
            continue
        if character == "\\":
            at += 1
            text += re.escape(pattern[at])
        else:
            text += {"*": "[^/]*", "?": "[^/]"}.get(character) or re.escape(character)
        at += 1
    try:
        return re.compile(text + r"\Z", re.DOTALL)
    except re.error as e:
        raise _malformed(pattern) from e


def has_wildcards(text: str) -> bool:
    """Tell whether a path has `*`, `?` or `[` that no backslash takes the meaning from."""
    return re.search(r"(?<!\\)(?:\\\\)*[*?[]", text) is not None


def escaped(path: str) -> str:
    """Return the pattern that matches a path as it is written."""
    return re.sub(r"([*?[\]\\])", r"\\\1", path)


def _class(inside: str) -> str:
    """Translate what is between brackets; filepath.Match knows `^`, ranges and backslashes there, nothing else."""
    inverted = inside.startswith("^")
    text = ""
    at = 1 if inverted else 0
    while at < len(inside):
        if inside[at] == "-":  # of a range: no other is well-formed
            text += "-"
        else:
            at += inside[at] == "\\"
            text += re.escape(inside[at])
        at += 1
    return f"[{'^' if inverted else ''}{text}]"


def _end_of_class(pattern: str, at: int, given: str) -> int:
    """Return where a class ends that begins at `at`; filepath.Match, matchChunk: `[` [ `^` ] range { range } `]`."""
    at += 1
    if pattern[at : at + 1] == "^":
        at += 1
    ranges = 0
    while True:
        if pattern[at : at + 1] == "]" and ranges:
            return at + 1
        at = _end_of_character(pattern, at, given)
        if pattern[at : at + 1] == "-":
            at = _end_of_character(pattern, at + 1, given)
        ranges += 1


def _end_of_character(pattern: str, at: int, given: str) -> int:
    character = pattern[at : at + 1]
    if character == "\\":
        at += 1
    if character in {"", "-", "]"} or at + 1 >= len(pattern):
        raise _malformed(given)
    return at + 1


def _malformed(pattern: str) -> InvalidInput:
    return InvalidInput(
        f"can't use pattern {pattern[:300]}: syntax error in pattern", "`[` needs its `]`, `\\` a letter"
    )


def _compiled(text: str, given: str) -> Callable[[str], bool]:
    """Compile a cleaned pattern; most need no regular expression."""
    if not _SPECIAL.search(text):
        return text.__eq__
    if text.startswith("**") and not _SPECIAL.search(end := text[2:]):
        return lambda path: path.endswith(end) or "/" + path == end
    if text.endswith("**") and not _SPECIAL.search(start := text[:-2]):
        return lambda path: path.startswith(start)
    try:
        expression = re.compile(_translated(text))
    except re.error as e:
        raise _malformed(given) from e
    return lambda path: expression.match(path) is not None


def _translated(text: str) -> str:
    """Return the regular expression that moby/patternmatcher makes of a pattern, in Python's form."""
    found = ""
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "*" and text[at : at + 1] == "*":
            at += 1
            if text[at : at + 1] == "/":
                at += 1
            found += ".*" if at == len(text) else "(?:.*/)?"
        elif character in "*?":
            found += "[^/]*" if character == "*" else "[^/]"
        elif character == "\\":
            found += re.escape(text[at : at + 1])
            at += 1
        elif character == "[":
            end = _end_of_class(text, at - 1, text)
            found += _class(text[at : end - 1])
            at = end
        else:
            found += re.escape(character)
    return found + r"\Z"


def _literal_start(text: str) -> tuple[str, ...]:
    """Return the components that a pattern begins with and that have nothing special."""
    names = []
    for name in text.split("/"):
        if _SPECIAL.search(name):
            break
        names.append(name)
    return tuple(names)


def _parents(path: str) -> Iterator[str]:
    """Give the directories above a path, the topmost first, less the root."""
    at = path.find("/")
    while at > 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _clean(path: str) -> str:
    """Return a path as Go's filepath.Clean does: posixpath's, but for two slashes at the start."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned
