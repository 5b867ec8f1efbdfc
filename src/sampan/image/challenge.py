"""The WWW-Authenticate header: which scheme a server wants, with what parameters. Pure; RFC 9110, 11.6.1."""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105
_PART = re.compile(
    rf'\s*(?:,\s*)*(?:({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}|[^\s,"]+))|({_TOKEN})(?=\s|,|$))'
)
_ESCAPED = re.compile(r"\\(.)")


class Challenge(NamedTuple):
    """One scheme, in lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str]


def parse(header: str) -> list[Challenge]:
    """Read all challenges of a header. What can't be read ends the list: a server's mistake is no crash of ours."""
    challenges: list[Challenge] = []
    position = 0
    while (match := _PART.match(header, position)) is not None:
        position = match.end()
        name, quoted, plain, scheme = match.groups()
        if scheme is not None:
            challenges.append(Challenge(scheme.lower(), {}))
        elif challenges:
            value = _ESCAPED.sub(r"\1", quoted) if quoted is not None else plain
            challenges[-1].parameters.setdefault(name.lower(), value)
        else:
            break
    return challenges
