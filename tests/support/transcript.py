"""Transcripts: command lines and what came of them, as text files that people can read (tests/goldens/docker).

    $ run --rm busybox echo hi        a command line without the program's name
    hi                                its standard output
    2> some message                   its standard error
    = 3                               its exit code, where it is not 0
    % run busybox nosuch              as $, but what it says on standard error is not compared

Ids, times and durations are replaced by words, runs of blanks by two, the program's name by PROGRAM; empty lines, hints
and the pointers to --help, which the programs word differently, are left out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from support.sampan import Result

GOLDENS = Path(__file__).resolve().parents[1] / "goldens" / "docker"


class Entry(NamedTuple):
    """One command line and the normalised text of its outcome."""

    mark: str
    line: str
    outcome: str


def read(path: Path) -> list[Entry]:
    """Return the entries of a transcript; lines starting with # before the first command are its title."""
    entries: list[Entry] = []
    for text in path.read_text().splitlines():
        if text.startswith(("$ ", "% ")):
            entries.append(Entry(text[0], text[2:], ""))
        elif entries:
            entries[-1] = entries[-1]._replace(outcome=f"{entries[-1].outcome}{text}\n")
    return entries


def title(path: Path) -> str:
    return "".join(f"{line}\n" for line in path.read_text().splitlines() if line.startswith("#"))


def replay(entries: list[Entry], run: Callable[..., Result]) -> Iterator[Entry]:
    """Perform each command line by `run(*words)`; yield it with what came of it."""
    for entry in entries:
        yield entry._replace(outcome=outcome(run(*shlex.split(entry.line)), quiet=entry.mark == "%"))


def outcome(result: Result, *, quiet: bool) -> str:
    """Return standard output, standard error (unless `quiet`) and exit code as a transcript has them."""
    lines = [line for line in normal(result.out).splitlines() if line]
    if not quiet:
        lines += [f"2> {line}" for line in normal(result.err).splitlines() if _counts(line)]
    if result.code:
        lines.append(f"= {result.code}")
    return "".join(f"{line}\n" for line in lines)


def _counts(line: str) -> bool:
    return bool(line.strip()) and not re.match(r"\s+hint: |Run 'PROGRAM |See 'PROGRAM |Usage: |WARNING: ", line)


_REPLACED = (
    (r"sha256:[0-9a-f]{64}", "DIGEST"),
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "SHORTID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d{4} \w+|Z|[+-]\d\d:\d\d)?", "TIME"),
    (r"(Less than a second|About a minute|\d+ (seconds?|minutes?))", "WHILE"),
    (r"\b(docker|sampan)\b", "PROGRAM"),
    (r"(?m)[ \t]+$", ""),
    (r" {2,}", "  "),
    # Docker's daemon has begun its messages in lower case since 20.10.
    (r"(?<=from daemon: )[A-Z](?=[a-z])", lambda found: found.group().lower()),
)


def normal(text: str) -> str:
    """Replace what differs from one run to the next."""
    for pattern, word in _REPLACED:
        text = re.sub(pattern, word, text.replace("\r\n", "\n"))
    return text
