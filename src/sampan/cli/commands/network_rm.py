"""`sampan network rm`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import network
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say, warn
from sampan.cli.session import ServerError


def rm(call: Call) -> int:
    """Remove each and print it; with --force one that is not there is passed over."""
    status = 0
    for name in call.arguments:
        try:
            call.session.ask("DELETE", network(name))
        except Failure as e:
            if call.options["force"] and isinstance(e, ServerError) and e.http_status == 404:
                continue
            warn(e.message + (f"\n  hint: {e.hint}" if e.hint else ""))
            status = 1
        else:
            say(name)
    return status


COMMAND = Command(
    "rm NETWORK [NETWORK...]",
    "Remove one or more networks",
    rm,
    flags=(Flag("force", "bool", "One that does not exist is no error", short="f"),),
    arguments=(1, None),
)
