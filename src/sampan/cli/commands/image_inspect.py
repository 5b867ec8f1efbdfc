"""`sampan image inspect`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.commands.inspect import FORMAT, get_image
from sampan.cli.flags import Flag
from sampan.cli.inspecting import show_all
from sampan.cli.platforms import as_json


def inspect(call: Call) -> int:
    """Print images."""
    platform = as_json(call.options["platform"])
    return show_all(call.arguments, lambda name: get_image(call, name, platform), call.options["format"])


COMMAND = Command(
    "inspect [OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    inspect,
    flags=(FORMAT, Flag("platform", "string", "If it is for this: OS[/ARCH[/VARIANT]]")),
    arguments=(1, None),
)
