"""`sampan stop`: ask programs to end, then kill them."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import ALL, CIDFILE, FILTER, IGNORE, LATEST, container, each
from sampan.cli.flags import Flag
from sampan.client.wire import query


def stop(call: Call) -> int:
    """Stop each container."""
    options = call.options
    seconds = next((options[name] for name in ("timeout", "time") if name in options), None)
    parameters = query(signal=options["signal"], t=seconds)
    return each(
        call,
        lambda name: call.session.ask("POST", container(name, f"/stop{parameters}")).read(),
        missing_is_fine=options["ignore"],
    )


COMMAND = Command(
    "stop [OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers",
    stop,
    flags=(
        Flag("signal", "string", "Signal to send", short="s"),
        Flag("timeout", "int", "Seconds to wait before killing it; -1: for ever", short="t", default=0),
        Flag("time", "int", "The same", default=0),
        ALL,
        CIDFILE,
        FILTER,
        IGNORE,
        LATEST,
    ),
    arguments=(1, None),
    choosers=("all", "cidfile", "filter", "latest"),
)
