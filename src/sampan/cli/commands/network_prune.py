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
    if pruning.confirmed(call, _WARNING):
        text, _ = pruning.networks(call.session, pruning.filters(call))
        if text:
            say(text)
    return 0


COMMAND = Command(
    "prune [OPTIONS]",
    "Remove all unused networks",
    prune,
    flags=(Flag("filter", "filter", "Only those that match: until=TIME, label[!]=NAME[=VALUE]"), pruning.FORCE),
)
