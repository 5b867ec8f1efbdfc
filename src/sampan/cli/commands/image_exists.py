"""`sampan image exists`: 0 if there is such an image here, 1 if not."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.commands.inspect import get_image
from sampan.cli.session import ServerError


def exists(call: Call) -> int:
    """Print nothing."""
    try:
        get_image(call, call.arguments[0])
    except ServerError as e:
        if e.http_status == 404:
            return 1
        raise
    return 0


COMMAND = Command("exists IMAGE", "Tell by the exit status whether an image is here", exists, arguments=(1, 1))
