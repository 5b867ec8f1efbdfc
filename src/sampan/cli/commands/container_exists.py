"""`sampan container exists`: 0 if there is such a container, 1 if not."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.commands.inspect import get_container
from sampan.cli.session import ServerError


def exists(call: Call) -> int:
    """Print nothing."""
    try:
        get_container(call, call.arguments[0])
    except ServerError as e:
        if e.http_status == 404:
            return 1
        raise
    return 0


COMMAND = Command("exists CONTAINER", "Tell by the exit status whether there is a container", exists, arguments=(1, 1))
