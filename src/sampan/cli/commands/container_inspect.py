"""`sampan container inspect`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.commands.inspect import FORMAT, SIZE, get_container
from sampan.cli.each import LATEST
from sampan.cli.inspecting import show_all


def inspect(call: Call) -> int:
    """Print containers."""
    return show_all(call.arguments, lambda name: get_container(call, name), call.options["format"])


COMMAND = Command(
    "inspect [OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    inspect,
    flags=(
        FORMAT,
        SIZE,
        LATEST,
    ),
    arguments=(1, None),
    choosers=("latest",),
)
