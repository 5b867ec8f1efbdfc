"""`sampan wait`: block until containers end and print their exit statuses."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import container
from sampan.cli.output import say, warn
from sampan.cli.session import ServerError
from sampan.cli.waiting import Waiting


def wait(call: Call) -> int:
    """Print the exit status of each container, in the order of the arguments."""
    status = 0
    for name in call.arguments:
        try:
            say(str(Waiting(call.session, container(name), "not-running").exit_status()))
        except ServerError as e:
            warn(e.message)
            status = 1
    return status


COMMAND = Command(
    "wait CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    wait,
    arguments=(1, None),
)
