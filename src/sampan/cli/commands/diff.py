"""`sampan diff`: what a container has changed."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import LATEST, container
from sampan.cli.output import write

_KINDS = ("C", "A", "D")


def diff(call: Call) -> int:
    """Print a line for each path that was added, changed or deleted."""
    changes = call.session.ask("GET", container(call.arguments[0], "/changes")).json() or ()
    write("".join(f"{_KINDS[change['Kind']]} {change['Path']}\n" for change in changes))
    return 0


COMMAND = Command(
    "diff CONTAINER",
    "Show what a container has added, changed and deleted in its image's files",
    diff,
    flags=(LATEST,),
    arguments=(1, 1),
    choosers=("latest",),
)
