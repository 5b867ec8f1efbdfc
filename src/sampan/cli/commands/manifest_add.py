"""`sampan manifest add`: images into an index that is being made."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.lists import PLATFORM, auths, change, list_path
from sampan.cli.output import say


def add(call: Call) -> int:
    """Add them and print the digest that the index would have now."""
    name, *images = call.arguments
    options = call.options
    body = {
        "Images": images,
        "All": options["all"],
        "Change": change(options),
        "Auths": auths(call.session, images, options["creds"]),
    }
    say(str(call.session.ask("POST", list_path(name, "/add"), body).json()["Digest"]))
    return 0


COMMAND = Command(
    "add [OPTIONS] LIST IMAGE [IMAGE...]",
    "Add images to an index",
    add,
    flags=(
        Flag("all", "bool", "Of an index take all images, not this machine's or --arch's alone"),
        *PLATFORM,
        Flag("creds", "string", "Credentials for the images' registries: USER[:PASSWORD]"),
    ),
    arguments=(2, None),
)
