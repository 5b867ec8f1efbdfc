"""`sampan untag`: take names of an image away; unlike `rmi` this never removes the image."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.output import say
from sampan.client.wire import query, quote


def untag(call: Call) -> int:
    """Print each name that is gone."""
    image, *names = call.arguments
    for item in call.session.ask("POST", f"/sampan/images/{quote(image)}/untag{query(name=names)}").json():
        say(f"Untagged: {item['Untagged']}")
    return 0


COMMAND = Command(
    "untag IMAGE [NAME...]",
    "Take names of an image away, all of them if none is given; the image stays",
    untag,
    arguments=(1, None),
)
