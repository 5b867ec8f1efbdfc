"""`sampan healthcheck run`: run a container's health check now; 1 if it fails, 125 if it can't be run, as podman's."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import LATEST, container
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say
from sampan.cli.session import ServerError


def run(call: Call) -> int:
    """Print nothing where it succeeds."""
    try:
        health = call.session.ask("POST", "/sampan" + container(call.arguments[0], "/healthcheck/run")).json()
    except ServerError as e:
        raise Failure(e.message, e.hint, 125) from None
    if health["Log"][-1]["ExitCode"] == 0:
        return 0
    say("starting" if health["Status"] == "starting" and "Startup" in health else "unhealthy")
    return 0 if call.options["ignore-result"] else 1


COMMAND = Command(
    "run [OPTIONS] CONTAINER",
    "Run the health check of a container now",
    run,
    flags=(Flag("ignore-result", "bool", "Exit with 0 also if it fails"), LATEST),
    arguments=(1, 1),
    choosers=("latest",),
)
