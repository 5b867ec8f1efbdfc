"""`sampan network disconnect`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import network
from sampan.cli.flags import Flag


def disconnect(call: Call) -> int:
    """Take a container off a network."""
    name, container = call.arguments
    body = {"Container": container, "Force": call.options["force"]}
    call.session.ask("POST", network(name, "/disconnect"), body)
    return 0


COMMAND = Command(
    "disconnect [OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    disconnect,
    flags=(Flag("force", "bool", "Also where the container is gone", short="f"),),
    arguments=(2, 2),
)
