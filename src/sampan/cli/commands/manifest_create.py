"""`sampan manifest create`: an index, to be pushed."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.lists import INSECURE, auths, pairs
from sampan.cli.output import say


def create(call: Call) -> int:
    """Make it of the images that are named."""
    name, *images = call.arguments
    options = call.options
    body = {
        "Name": name,
        "Images": images,
        "Amend": options["amend"],
        "All": options["all"],
        "Annotations": pairs(options["annotation"]),
        "Auths": auths(call.session, images),
    }
    made = call.session.ask("POST", "/sampan/lists", body).json()
    say(f"Created manifest list {made['Name']}")
    return 0


COMMAND = Command(
    "create [OPTIONS] LIST [IMAGE...]",
    "Make an index of images that are here or at registries",
    create,
    flags=(
        Flag("all", "bool", "Of an index take all images, not this machine's alone"),
        Flag("amend", "bool", "Add to a list that is there", short="a"),
        Flag("annotation", "list", "Annotate the index: NAME=VALUE"),
        INSECURE,
    ),
    arguments=(1, None),
)
