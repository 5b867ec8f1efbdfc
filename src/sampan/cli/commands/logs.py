"""`sampan logs`: what a container has written."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import LATEST, container
from sampan.cli.flags import Flag
from sampan.cli.moments import moment
from sampan.cli.stream import Output
from sampan.client.wire import query


def logs(call: Call) -> int:
    """Print the log, and with -f what is added to it."""
    options, session = call.options, call.session
    inspected = session.ask("GET", container(call.arguments[0], "/json")).json()
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
    answer = session.ask("GET", f"/sampan/containers/{inspected['Id']}/logs{parameters}")
    output = Output(tty=inspected["Config"]["Tty"])
    for piece in answer.pieces():
        output.write(piece)
    return 0


COMMAND = Command(
    "logs [OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    logs,
    flags=(
        Flag("details", "bool", "Show extra attributes"),
        Flag("follow", "bool", "Go on with what is added", short="f"),
        Flag("since", "string", "Since a moment (2024-01-02T15:04:05Z) or a while ago (42m)"),
        Flag("tail", "string", "Number of lines from the end", short="n", default="all"),
        Flag("timestamps", "bool", "Show when each line was written", short="t"),
        Flag("until", "string", "Until a moment or a while ago"),
        LATEST,
    ),
    arguments=(1, 1),
    choosers=("latest",),
)
