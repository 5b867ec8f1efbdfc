"""`sampan network inspect`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.commands.inspect import FORMAT, get_network
from sampan.cli.flags import Flag
from sampan.cli.inspecting import show_all
from sampan.client.wire import query


def inspect(call: Call) -> int:
    """Print networks."""
    parameters = query(verbose="true" if call.options["verbose"] else None)
    return show_all(call.arguments, lambda name: get_network(call, name, parameters), call.options["format"])


COMMAND = Command(
    "inspect [OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    inspect,
    flags=(
        FORMAT,
        Flag("verbose", "bool", "Of a swarm's networks also the services; other networks have none", short="v"),
    ),
    arguments=(1, None),
)
