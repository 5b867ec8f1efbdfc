"""`inspect` of one or several kinds of objects: JSON as Docker prints it, or a template of each."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.cli.output import warn, write
from sampan.client.jsontext import dumps, indented

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def show_all(names: Sequence[str], get: Callable[[str], Any], format: str) -> int:
    """Print what `get` finds for each name; say what it does not find; 1 if something was not found."""
    template = None
    if format not in ("", "json"):
        from sampan.cli.inspect_template import executed
        from sampan.cli.templated import parsed

        template = parsed(format)
    found: list[Any] = []
    problems: list[Failure] = []
    for name in names:
        try:
            found.append(get(name) if template is None else executed(template, get(name)))
        except Failure as e:
            problems.append(e)
    if template:
        write("\n".join([*found, ""]) or "\n")  # nothing found is an empty line in Docker's client
    else:
        write(f"{dumps(found) if format else indented(found)}\n")
    for problem in problems:
        warn(problem.message + (f"\n  hint: {problem.hint}" if problem.hint else ""))
    return 1 if problems else 0
