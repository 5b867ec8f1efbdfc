"""`sampan builder prune`: remove what builds keep."""

from __future__ import annotations

from sampan.cli import pruning
from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.table import filters_of
from sampan.client.wire import query

_ALL = "WARNING! This will remove all build cache. Are you sure you want to continue?"
_DANGLING = "WARNING! This will remove all dangling build cache. Are you sure you want to continue?"
_SIZES = ("keep-storage", "max-used-space", "min-free-space", "reserved-space")


def prune(call: Call) -> int:
    """Ask, remove, tell."""
    options = call.options
    if not pruning.confirmed(call, _ALL if options["all"] else _DANGLING):
        return 0
    sizes = {name: options[name] for name in _SIZES if options[name]}
    given = filters_of(pruning.filters(call))
    parameters = query(all=options["all"], filters=given or None, **sizes)
    answer = call.session.ask("POST", f"/build/prune{parameters}").json()
    pruning.show([pruning.loss(answer, "CachesDeleted", "Deleted build cache objects:")])
    return 0


COMMAND = Command(
    "prune [OPTIONS]",
    "Remove build cache",
    prune,
    flags=(
        Flag("all", "bool", "Also what an image or another entry is made of", short="a"),
        Flag("filter", "filter", "Only what matches: until=24h, id=ID, type=TYPE, inuse, shared, private"),
        pruning.FORCE,
        Flag("keep-storage", "bytes", "Leave so much of what was used last"),
        Flag("max-used-space", "bytes", "Remove until no more than this is used"),
        Flag("min-free-space", "bytes", "Remove until so much of the disk is free"),
        Flag("reserved-space", "bytes", "The same as --keep-storage"),
    ),
)
