"""`sampan image prune`: remove images that nothing uses."""

from __future__ import annotations

from sampan.cli import pruning
from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag

_ALL = (
    "WARNING! This will remove all images without at least one container associated to them.\n"
    "Are you sure you want to continue?"
)
_DANGLING = "WARNING! This will remove all dangling images.\nAre you sure you want to continue?"


def prune(call: Call) -> int:
    """Ask, remove, tell."""
    everything, pairs = call.options["all"], pruning.filters(call)
    plan = pruning.query_of(("image",), pairs, all=everything)
    if pruning.wanted(call, _ALL if everything else _DANGLING, plan):
        pruning.show([pruning.images(call.session, pairs, all=everything)])
    return 0


COMMAND = Command(
    "prune [OPTIONS]",
    "Remove unused images",
    prune,
    flags=(
        Flag("all", "bool", "Also those that have a name, not only dangling ones", short="a"),
        pruning.DRY_RUN,
        Flag(
            "filter",
            "filter",
            "Only those that match: until=TIME (made before), unused-for=DURATION (neither run nor named for so long), "
            "label[!]=NAME[=VALUE]",
        ),
        pruning.FORCE,
    ),
)
