"""`sampan manifest remove`: an image out of an index that is being made."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.lists import list_path
from sampan.cli.output import say
from sampan.client.wire import query


def remove(call: Call) -> int:
    """Take it out and print the digest that the index would have now."""
    name, image = call.arguments
    answer = call.session.ask("POST", list_path(name, f"/remove{query(image=image)}"), b"")
    say(str(answer.json()["Digest"]))
    return 0


COMMAND = Command(
    "remove LIST IMAGE|DIGEST",
    "Take an image out of an index",
    remove,
    arguments=(2, 2),
)
