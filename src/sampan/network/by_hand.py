"""A container's network as shell: made for one run, and taken away after it. Pure.

What is `Shared` is made only where it is not there; the rest is this container's own. Every step that has an opposite
puts it before the others in `$undo`, which the script evaluates at its end.
"""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

import msgspec

from sampan.spec.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Operations = tuple[Operation, ...]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Steps, and those that take back what they made; `there` is a command that succeeds where they aren't needed."""

    steps: Operations
    undo: Operations = ()
    there: str = ""


def script(parts: Iterable[Part]) -> str:
    """Return the lines that make all parts."""
    return "".join(line for part in parts for line in (_shared(part) if part.there else _lines(part)))


def _shared(part: Part) -> Iterator[str]:
    yield f"if ! {part.there} >/dev/null 2>&1; then\n"
    yield from _lines(part)
    yield "fi\n"


def _lines(part: Part) -> Iterator[str]:
    for step in part.steps:
        yield f"# {step.say()}: {step.man}\n{step.shell()}\n"
    for step in part.undo:
        yield f'undo={quote(step.shell() + "; ")}"$undo"\n'
