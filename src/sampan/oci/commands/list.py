"""`list`: the containers of this root."""

from __future__ import annotations

import pwd
import sys

from sampan.client.jsontext import dumps
from sampan.errors import InvalidInput
from sampan.oci.options import Option
from sampan.oci.report import state_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.main import Invocation

USAGE = "[OPTIONS]"
OPTIONS = (
    Option("format f", "table or json"),
    Option("quiet q", "print ids only", "flag"),
)
_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def perform(invocation: Invocation) -> int:
    """Print one line a container, or a JSON list."""
    style = invocation.given.value("format", "table")
    if style not in ("table", "json"):
        raise InvalidInput(f"invalid format option: {style}", "it is table or json")
    found = [state_of(r) | {"owner": _name(r.facts["owner"])} for r in invocation.store.all()]
    if invocation.given.flag("quiet"):
        text = "".join(f"{state['id']}\n" for state in found)
    elif style == "json":
        text = f"{dumps(found or None)}\n"
    else:
        text = table([c.upper() for c in _COLUMNS], [[str(state[c]) for c in _COLUMNS] for state in found])
    sys.stdout.write(text)
    return 0


def _name(uid: int) -> Any:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Lay out columns as runc does: three blanks between them, twelve characters at least."""
    widths = [max(12, *(len(row[n]) + 3 for row in (head, *rows))) for n in range(len(head))]
    lines = ("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return "".join(f"{line.rstrip()}\n" for line in lines)
