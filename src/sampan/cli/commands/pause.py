"""`sampan pause`: freeze every process."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import ALL, CIDFILE, FILTER, LATEST, container, each


def pause(call: Call) -> int:
    """Freeze each container."""
    return each(call, lambda name: call.session.ask("POST", container(name, "/pause")).read())


COMMAND = Command(
    "pause CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    pause,
    flags=(ALL, CIDFILE, FILTER, LATEST),
    arguments=(1, None),
    choosers=("all", "cidfile", "filter", "latest"),
)
