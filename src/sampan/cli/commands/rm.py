"""`sampan rm`: remove containers."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import container, each
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.client.wire import query


def rm(call: Call) -> int:
    """Remove each container."""
    options = call.options
    parameters = query(v=options["volumes"], link=options["link"], force=options["force"])

    def remove(name: str) -> None:
        name = name.strip("/")
        if not name:
            raise Failure("container name cannot be empty")
        call.session.ask("DELETE", container(name, parameters)).read()

    return each(call, remove, missing_is_fine=options["force"])


COMMAND = Command(
    "rm [OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    rm,
    flags=(
        Flag("force", "bool", "Kill it first if it runs", short="f"),
        Flag("link", "bool", "Remove a link", short="l", unsupported="there are no links"),
        Flag("volumes", "bool", "Remove its anonymous volumes as well", short="v"),
    ),
    arguments=(1, None),
)
