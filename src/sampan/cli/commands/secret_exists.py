"""`sampan secret exists`: 0 if there is such a secret, 1 if not."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import secret
from sampan.cli.session import ServerError


def exists(call: Call) -> int:
    """Print nothing."""
    try:
        call.session.ask("GET", secret(call.arguments[0]))
    except ServerError as e:
        if e.http_status == 404:
            return 1
        raise
    return 0


COMMAND = Command("exists SECRET", "Tell by the exit status whether there is a secret", exists, arguments=(1, 1))
