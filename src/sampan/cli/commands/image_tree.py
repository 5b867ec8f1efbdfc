"""`sampan image tree`: the layers of an image."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.image_tree import rendered
from sampan.cli.output import write
from sampan.client.wire import query


def tree(call: Call) -> int:
    """Print an image with its layers, lowest first."""
    found = call.session.ask("GET", f"/sampan/images/tree{query(name=call.arguments[0])}").json()
    write(rendered(found, trunc=not call.options["no-trunc"]))
    return 0


COMMAND = Command(
    "tree [OPTIONS] IMAGE",
    "Show the layers of an image, and which images share them",
    tree,
    flags=(Flag("no-trunc", "bool", "Show ids and commands whole"),),
    arguments=(1, 1),
)
