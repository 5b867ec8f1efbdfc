"""`sampan volume inspect`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.commands.inspect import FORMAT, get_volume
from sampan.cli.inspecting import show_all


def inspect(call: Call) -> int:
    """Print volumes."""
    return show_all(call.arguments, lambda name: get_volume(call, name), call.options["format"])


COMMAND = Command(
    "inspect [OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    inspect,
    flags=(FORMAT,),
    arguments=(1, None),
)
