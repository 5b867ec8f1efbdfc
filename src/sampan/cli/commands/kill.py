"""`sampan kill`: send a signal, SIGKILL if none is named."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import ALL, CIDFILE, LATEST, container, each
from sampan.cli.flags import Flag
from sampan.client.wire import query


def kill(call: Call) -> int:
    """Send a signal to each container's program."""
    parameters = query(signal=call.options["signal"])
    return each(call, lambda name: call.session.ask("POST", container(name, f"/kill{parameters}")).read())


COMMAND = Command(
    "kill [OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    kill,
    flags=(
        Flag("signal", "string", "Signal to send", short="s"),
        ALL,
        CIDFILE,
        LATEST,
    ),
    arguments=(1, None),
    choosers=("all", "cidfile", "latest"),
)
