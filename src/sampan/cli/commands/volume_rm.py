"""`sampan volume rm`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import each, volume
from sampan.cli.flags import Flag
from sampan.client.wire import query


def rm(call: Call) -> int:
    """Remove each and print it."""
    force = query(force=call.options["force"])
    return each(call, lambda name: call.session.ask("DELETE", volume(name, force)))


COMMAND = Command(
    "rm [OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes that no container uses",
    rm,
    flags=(Flag("force", "bool", "One that does not exist is no error", short="f"),),
    arguments=(1, None),
)
