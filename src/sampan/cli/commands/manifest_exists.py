"""`sampan manifest exists`: whether such an index is being made."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.lists import list_path
from sampan.cli.session import ServerError


def exists(call: Call) -> int:
    """End with 0 if it is there, with 1 if it is not."""
    try:
        call.session.ask("HEAD", list_path(call.arguments[0])).read()
    except ServerError as e:
        if e.http_status == 404:
            return 1
        raise
    return 0


COMMAND = Command(
    "exists LIST",
    "Tell by the exit status whether there is such a list",
    exists,
    arguments=(1, 1),
)
