"""`sampan container prune`: remove stopped containers."""

from __future__ import annotations

from sampan.cli import pruning
from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag

_WARNING = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"


def prune(call: Call) -> int:
    """Ask, remove, tell."""
    if pruning.confirmed(call, _WARNING):
        pruning.show([pruning.containers(call.session, pruning.filters(call))])
    return 0


COMMAND = Command(
    "prune [OPTIONS]",
    "Remove all stopped containers",
    prune,
    flags=(Flag("filter", "filter", "Only those that match: until=TIME, label[!]=NAME[=VALUE]"), pruning.FORCE),
)
