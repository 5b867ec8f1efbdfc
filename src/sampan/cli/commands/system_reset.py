"""`sampan system reset`: nothing of this instance is left but its settings."""

from __future__ import annotations

import os

from sampan.cli import pruning
from sampan.cli.command import Call, Command
from sampan.cli.output import say

_WARNING = (
    "WARNING! This will remove:\n"
    "  - all containers, also those that run\n"
    "  - all images\n"
    "  - all volumes, with what is in them\n"
    "  - all networks\n"
    "  - all build cache\n"
    "  - the store at {root}, except config.toml and certs.d\n\n"
    "Are you sure you want to continue?"
)
_KEPT = ("config.toml", "certs.d")


def reset(call: Call) -> int:
    """Ask, have the engine remove everything, end it, and remove its directories."""
    from sampan.cli.commands.system_stop import end_engine

    root, run = call.session.dirs.root, call.session.dirs.run
    if not pruning.confirmed(call, _WARNING.format(root=root)):
        return 0
    call.session.ask("POST", "/sampan/reset").read()
    end_engine(call.session)
    _empty(root)
    if run != root:
        _empty(run)
    say(f"removed everything at {root}")
    return 0


def _empty(directory: str) -> None:
    """Remove what is in a directory of the engine's, and the directory if nothing is left in it."""
    from sampan.kernel.trees import remove_tree

    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        if name not in _KEPT:
            remove_tree(f"{directory}/{name}")
    try:
        os.rmdir(directory)
    except OSError:  # settings are there
        pass


COMMAND = Command(
    "reset [OPTIONS]",
    "Remove everything: containers, images, volumes, networks and the store itself",
    reset,
    flags=(pruning.FORCE,),
)
