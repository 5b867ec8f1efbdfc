"""`sampan container prune`: remove stopped containers."""

from __future__ import annotations

from sampan.cli import pruning
from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag

_WARNING = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"


def prune(call: Call) -> int:
    """Ask, remove, tell."""
    pairs = pruning.filters(call)
    if pruning.wanted(call, _WARNING, pruning.query_of(("container",), pairs)):
        pruning.show([pruning.containers(call.session, pairs)])
    return 0


COMMAND = Command(
    "prune [OPTIONS]",
    "Remove all stopped containers",
    prune,
    flags=(
        pruning.DRY_RUN,
        Flag("filter", "filter", "Only those that match: until=TIME, label[!]=NAME[=VALUE]"),
        pruning.FORCE,
    ),
)
