"""`sampan unpause`: let frozen processes go on."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import ALL, CIDFILE, FILTER, LATEST, container, each


def unpause(call: Call) -> int:
    """Thaw each container."""
    return each(call, lambda name: call.session.ask("POST", container(name, "/unpause")).read())


COMMAND = Command(
    "unpause CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers",
    unpause,
    flags=(ALL, CIDFILE, FILTER, LATEST),
    arguments=(1, None),
    choosers=("all", "cidfile", "filter", "latest"),
)
