"""`sampan rename`: give a container another name."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import container
from sampan.cli.failure import Failure
from sampan.cli.session import ServerError
from sampan.client.wire import query


def rename(call: Call) -> int:
    """Rename one container."""
    old, new = call.arguments
    if not old or not new:
        raise Failure("Error: Neither old nor new names may be empty")
    try:
        call.session.ask("POST", container(old, f"/rename{query(name=new)}")).read()
    except ServerError as e:
        raise Failure(f"{e.message}\nError: failed to rename container named {old}", e.hint) from None
    return 0


COMMAND = Command(
    "rename CONTAINER NEW_NAME",
    "Rename a container",
    rename,
    arguments=(2, 2),
)
