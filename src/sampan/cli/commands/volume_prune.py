"""`sampan volume prune`: remove volumes that nothing uses."""

from __future__ import annotations

from sampan.cli import pruning
from sampan.cli.command import Call, Command
from sampan.cli.failure import UsageError
from sampan.cli.flags import Flag

_ANONYMOUS = (
    "WARNING! This will remove anonymous local volumes not used by at least one container.\n"
    "Are you sure you want to continue?"
)
_ALL = (
    "WARNING! This will remove all local volumes not used by at least one container.\n"
    "Are you sure you want to continue?"
)


def prune(call: Call) -> int:
    """Ask, remove, tell."""
    pairs = pruning.filters(call)
    if call.options["all"]:
        if any(name == "all" for name, _ in pairs):
            raise UsageError("conflicting options: cannot specify both --all and --filter all=1")
        pairs.append(("all", "true"))
    question = _ALL if call.options["all"] else _ANONYMOUS
    if pruning.wanted(call, question, pruning.query_of(("volume",), pairs)):
        pruning.show([pruning.volumes(call.session, pairs)])
    return 0


COMMAND = Command(
    "prune [OPTIONS]",
    "Remove unused local volumes: those that nobody named",
    prune,
    flags=(
        Flag("all", "bool", "Also those with names", short="a"),
        pruning.DRY_RUN,
        Flag("filter", "filter", "Only those that match: label[!]=NAME[=VALUE]"),
        pruning.FORCE,
    ),
)
