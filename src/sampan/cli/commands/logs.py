"""`sampan logs`: what containers have written."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import LATEST, container
from sampan.cli.flags import Flag
from sampan.cli.moments import moment
from sampan.cli.stream import Output
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.cli.flags import Options


def logs(call: Call) -> int:
    """Print the log, and with -f what is added to it."""
    options = call.options
    inspected = [call.session.ask("GET", container(name, "/json")).json() for name in call.arguments]
    path = _targets(options)
    if len(inspected) > 1 or options["color"]:
        from sampan.cli.labelled import print_logs

        return print_logs(call.session, inspected, path, options)
    (one,) = inspected
    output = Output(tty=one["Config"]["Tty"])
    for piece in call.session.ask("GET", path(one)).pieces():
        output.write(piece)
    return 0


def _targets(options: Options) -> Callable[[dict[str, Any]], str]:
    """Return what gives the target of the request for the log of an inspected container."""
    parameters = query(
        stdout=1,
        stderr=1,
        follow=options["follow"],
        timestamps=options["timestamps"],
        details=options["details"],
        tail=options["tail"],
        since=moment(options["since"], "since"),
        until=moment(options["until"], "until"),
    )
    return lambda one: f"/sampan/containers/{one['Id']}/logs{parameters}"


COMMAND = Command(
    "logs [OPTIONS] CONTAINER [CONTAINER...]",
    "Fetch the logs of containers",
    logs,
    flags=(
        Flag("color", "bool", "Show each container's lines in a colour of their own"),
        Flag("details", "bool", "Show extra attributes"),
        Flag("follow", "bool", "Go on with what is added", short="f"),
        Flag("names", "bool", "Begin the lines of several containers with their names, not their ids"),
        Flag("since", "string", "Since a moment (2024-01-02T15:04:05Z) or a while ago (42m)"),
        Flag("tail", "string", "Number of lines from the end", short="n", default="all"),
        Flag("timestamps", "bool", "Show when each line was written", short="t"),
        Flag("until", "string", "Until a moment or a while ago"),
        LATEST,
    ),
    arguments=(1, None),
    choosers=("latest",),
)
