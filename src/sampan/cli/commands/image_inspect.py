"""`sampan image inspect`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.commands.inspect import FORMAT, get_image
from sampan.cli.flags import Flag
from sampan.cli.inspecting import show_all


def inspect(call: Call) -> int:
    """Print images."""
    return show_all(call.arguments, lambda name: get_image(call, name), call.options["format"])


COMMAND = Command(
    "inspect [OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    inspect,
    flags=(FORMAT, Flag("platform", "string", "Of one platform", unsupported="an image here is of one platform")),
    arguments=(1, None),
)
