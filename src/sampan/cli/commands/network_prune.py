"""`sampan network prune`: remove networks that nothing uses."""

from __future__ import annotations

from sampan.cli import pruning
from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import say

_WARNING = (
    "WARNING! This will remove all custom networks not used by at least one container.\n"
    "Are you sure you want to continue?"
)


def prune(call: Call) -> int:
    """Ask, remove, tell."""
    pairs = pruning.filters(call)
    if pruning.wanted(call, _WARNING, pruning.query_of(("network",), pairs)):
        text, _ = pruning.networks(call.session, pairs)
        if text:
            say(text)
    return 0


COMMAND = Command(
    "prune [OPTIONS]",
    "Remove all unused networks",
    prune,
    flags=(
        pruning.DRY_RUN,
        Flag("filter", "filter", "Only those that match: until=TIME, label[!]=NAME[=VALUE]"),
        pruning.FORCE,
    ),
)
