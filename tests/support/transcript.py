"""Transcripts: command lines and what came of them, as text files that people can read (tests/goldens/docker).

    $ run --rm busybox echo hi        a command line without the program's name
    hi                                its standard output
    2> some message                   its standard error
    = 3                               its exit code, where it is not 0
    % run busybox nosuch              as $, but what it says on standard error is not compared

In a command line REGISTRY is a registry's address, DIGEST1 and DIGEST2 those of its box:1 and box:2, IMAGE1 and IMAGE2
their ids, without sha256.
Ids, times and durations are replaced by words, runs of blanks by two, the program's name by PROGRAM; empty lines, hints
and the pointers to --help, which the programs word differently, are left out.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from support.images import oci_layout
from support.registry import Registry
from support.sampan import Result

GOLDENS = Path(__file__).resolve().parents[1] / "goldens" / "docker"


BRIDGED = ("network-containers", "networks", "published-ports", "volumes")
"""Transcripts that need a dockerd that makes networks, or says nothing of having none."""


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


def replay(entries: list[Entry], run: Callable[..., Result], names: Mapping[str, str]) -> Iterator[Entry]:
    """Perform each command line by `run(*words)` with its `names` replaced; yield it with what came of it."""
    for entry in entries:
        line = entry.line
        for name, value in names.items():
            line = line.replace(name, value)
        yield entry._replace(outcome=outcome(run(*shlex.split(line)), quiet=entry.mark == "%"))


def stocked(registry: Registry, directory: Path, tar: Path) -> dict[str, str]:
    """Push two images to a registry; return the names that transcripts use for it and them."""
    names = {"REGISTRY": registry.address}
    for number in (1, 2):
        what = {"created": f"2024-01-0{number}T03:04:05Z", "Cmd": ["true"], "Labels": {"number": str(number)}}
        source = oci_layout(directory / f"box{number}", [tar], "box", **what)
        registry.push(source, f"box:{number}")
        (manifest,) = json.loads((directory / f"box{number}/index.json").read_text())["manifests"]
        names[f"DIGEST{number}"] = manifest["digest"]
        document = directory / f"box{number}/blobs" / manifest["digest"].replace(":", "/")
        names[f"IMAGE{number}"] = json.loads(document.read_text())["config"]["digest"].removeprefix("sha256:")
    return names


def outcome(result: Result, *, quiet: bool) -> str:
    """Return standard output, standard error (unless `quiet`) and exit code as a transcript has them."""
    lines = [line for line in normal(result.out).splitlines() if line]
    if not quiet:
        lines += [f"2> {line}" for line in normal(result.err).splitlines() if _counts(line)]
    if result.code:
        lines.append(f"= {result.code}")
    return "".join(f"{line}\n" for line in lines)


_ASIDE = re.compile(r"\s+hint: |Run 'PROGRAM |See 'PROGRAM |Usage: |WARNING: |exit status ")


def _counts(line: str) -> bool:
    return bool(line.strip()) and not _ASIDE.match(line)


_REPLACED = (
    (r"sha256:[0-9a-f]{64}", "DIGEST"),
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "SHORTID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d{4} \w+|Z|[+-]\d\d:\d\d)?", "TIME"),
    (r"(Less than a second|About a minute|\d+ (seconds?|minutes?))", "WHILE"),
    (r"\b127\.0\.0\.1:\d+\b", "REGISTRY"),
    (r"\b(docker|sampan)\b", "PROGRAM"),
    (r"(?m)[ \t]+$", ""),
    (r" {2,}", "  "),
    # A layer's size is here that of its regular files; Docker counts symbolic links as well.
    (r"(?<=reclaimed space: )[1-9][\d.]*[kMG]?B", "SIZE"),
    # The daemon's own words before containerd's have come with Docker 23.
    (r"failed to create task for container: (?=failed to create shim task: )", ""),
    # Docker's daemon has begun its messages in lower case since 20.10.
    (r"(?<=from daemon: )[A-Z](?=[a-z])", lambda found: found.group().lower()),
)


def normal(text: str) -> str:
    """Replace what differs from one run to the next."""
    for pattern, word in _REPLACED:
        text = re.sub(pattern, word, text.replace("\r\n", "\n"))
    return text
