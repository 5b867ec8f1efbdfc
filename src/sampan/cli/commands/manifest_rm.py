"""`sampan manifest rm`: forget indexes that were made."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.lists import list_path
from sampan.cli.output import warn
from sampan.cli.session import ServerError


def rm(call: Call) -> int:
    """Forget each; images stay."""
    status = 0
    for name in call.arguments:
        try:
            call.session.ask("DELETE", list_path(name)).read()
        except ServerError as e:
            warn(e.message + (f"\n  hint: {e.hint}" if e.hint else ""))
            status = 1
    return status


COMMAND = Command(
    "rm LIST [LIST...]",
    "Delete one or more manifest lists from local storage",
    rm,
    arguments=(1, None),
)
