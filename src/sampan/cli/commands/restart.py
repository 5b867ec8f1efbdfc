"""`sampan restart`: stop and start."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import ALL, CIDFILE, FILTER, LATEST, container, each
from sampan.cli.flags import Flag
from sampan.client.wire import query


def restart(call: Call) -> int:
    """Stop and start each container."""
    options = call.options
    seconds = next((options[name] for name in ("timeout", "time") if name in options), None)
    parameters = query(signal=options["signal"], t=seconds)
    return each(call, lambda name: call.session.ask("POST", container(name, f"/restart{parameters}")).read())


COMMAND = Command(
    "restart [OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers",
    restart,
    flags=(
        Flag("signal", "string", "Signal to send", short="s"),
        Flag("timeout", "int", "Seconds to wait before killing it; -1: for ever", short="t", default=0),
        Flag("time", "int", "The same", default=0),
        ALL,
        CIDFILE,
        FILTER,
        LATEST,
        Flag("running", "bool", "Those that run, in place of names"),
    ),
    arguments=(1, None),
    choosers=("all", "cidfile", "filter", "latest", "running"),
)
