"""Patterns in substitutions: `*`, `?` and a backslash before them; no brackets, as in BuildKit.

They are not made one regular expression: a backtracking engine takes minutes for `${x#*a*a*a*a*a*b}`. A pattern is cut
at its stars into segments of fixed length, which are looked for one after another. Both wildcards take newlines too, as
a shell's do.
"""

from __future__ import annotations

import re

from sampan.build.dockerfile.errors import Fault

_LONGEST = 1024


def trimmed(value: str, sign: str, word: str) -> str:
    """Take the prefix (`#`) or suffix (`%`) that matches away: the shortest, with the sign twice the longest."""
    longest = word.startswith(sign)
    segments = _segments(word[1:] if longest else word)
    if sign == "#":
        end = _end(_compiled(segments), value, 0, longest=longest)
        return value if end is None else value[end:]
    backwards = [segment[::-1] for segment in segments[::-1]]
    end = _end(_compiled(backwards), value[::-1], 0, longest=longest)
    return value if end is None else value[: len(value) - end]


def replaced(value: str, pattern: str, replacement: str, *, every: bool) -> str:
    """Replace the first match, or every one; each is the leftmost and longest."""
    segments = _compiled(_segments(pattern))
    if len(segments) == 1:
        return segments[0].sub(lambda _match: replacement, value, count=0 if every else 1)
    # With a star there is one match at most: it goes on to where its last segment is found last. Where the rest of the
    # pattern isn't found behind the first place of its first segment, it isn't behind a later one.
    first = segments[0].search(value)
    end = _end(segments, value, first.start(), longest=True) if first else None
    return value if first is None or end is None else value[: first.start()] + replacement + value[end:]


_Segment = list[str]
"""Regular expressions for one character each."""


def _segments(pattern: str) -> list[_Segment]:
    if len(pattern) > _LONGEST:
        raise Fault(f"invalid pattern in substitution: it is longer than {_LONGEST} characters", pattern)
    segments: list[_Segment] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == "*":
            segments.append([])
        elif character == "?":
            segments[-1].append(".")
        elif character == "\\":
            escaped = next(characters, "")
            # } and / are only escaped from the braces around the pattern.
            if not escaped or escaped not in "*?\\}/":
                raise Fault(f"invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'", pattern)
            segments[-1].append(re.escape(escaped))
        else:
            segments[-1].append(re.escape(character))
    return segments


def _compiled(segments: list[_Segment]) -> list[re.Pattern[str]]:
    return [re.compile("".join(segment), re.DOTALL) for segment in segments]


def _end(segments: list[re.Pattern[str]], value: str, start: int, *, longest: bool) -> int | None:
    """Return where the match that begins at `start` ends, None where there is none."""
    found = segments[0].match(value, start)
    for segment in segments[1:-1]:
        found = found and segment.search(value, found.end())
    if found is None or len(segments) == 1:
        return found.end() if found else None
    if not longest:
        found = segments[-1].search(value, found.end())
        return found.end() if found else None
    for at in range(len(value), found.end() - 1, -1):
        if last := segments[-1].match(value, at):
            return last.end()
    return None
