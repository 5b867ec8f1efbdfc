"""`sampan builder prune`: remove what builds keep."""

from __future__ import annotations

from sampan.cli import pruning
from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag

_ALL = "WARNING! This will remove all build cache. Are you sure you want to continue?"
_DANGLING = "WARNING! This will remove all dangling build cache. Are you sure you want to continue?"
_SIZES = ("keep-storage", "max-used-space", "min-free-space", "reserved-space")


def prune(call: Call) -> int:
    """Ask, remove, tell."""
    options = call.options
    pairs, everything = pruning.filters(call), options["all"]
    sizes = {name.replace("-", "_"): options[name] for name in _SIZES}
    plan = pruning.query_of(("build-cache",), pairs, all=everything, **sizes)
    if pruning.wanted(call, _ALL if everything else _DANGLING, plan):
        pruning.show([pruning.build_cache(call.session, pairs, all=everything, **sizes)])
    return 0


COMMAND = Command(
    "prune [OPTIONS]",
    "Remove build cache",
    prune,
    flags=(
        Flag("all", "bool", "Also what an image or another entry is made of", short="a"),
        pruning.DRY_RUN,
        Flag("filter", "filter", "Only what matches: until=24h, id=ID, type=TYPE, inuse, shared, private"),
        pruning.FORCE,
        Flag("keep-storage", "bytes", "Leave so much of what was used last"),
        Flag("max-used-space", "bytes", "Remove until no more than this is used"),
        Flag("min-free-space", "bytes", "Remove until so much of the disk is free"),
        Flag("reserved-space", "bytes", "The same as --keep-storage"),
    ),
)
