"""`sampan volume create`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.failure import UsageError
from sampan.cli.flags import Flag
from sampan.cli.output import say


def create(call: Call) -> int:
    """Make it, or find the one of this name, and print its name."""
    options = call.options
    name = call.arguments[0] if call.arguments else ""
    if options["name"]:
        if name:
            raise UsageError(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
            )
        name = options["name"]
    body = {
        "Name": name,
        "Driver": options["driver"],
        "DriverOpts": dict(options["opt"]),
        "Labels": dict(options["label"]),
    }
    say(call.session.ask("POST", "/volumes/create", body).json()["Name"])
    return 0


_SWARM = "sampan is an engine for one machine"

COMMAND = Command(
    "create [OPTIONS] [VOLUME]",
    "Create a volume",
    create,
    flags=(
        Flag("driver", "string", "The driver; there is local", short="d", default="local"),
        Flag("label", "map", "Set a label: NAME[=VALUE]"),
        Flag("name", "string", "The name, as Docker's older clients give it"),
        Flag("opt", "map", "An option of the driver: type, device and o, as mount(8) has them", short="o"),
        Flag("availability", "string", "Of a swarm's volume", default="active", unsupported=_SWARM),
        Flag("group", "string", "Of a swarm's volume", unsupported=_SWARM),
        Flag("limit-bytes", "string", "Of a swarm's volume", unsupported=_SWARM),
        Flag("required-bytes", "string", "Of a swarm's volume", unsupported=_SWARM),
        Flag("scope", "string", "Of a swarm's volume", default="single", unsupported=_SWARM),
        Flag("secret", "list", "Of a swarm's volume", unsupported=_SWARM),
        Flag("sharing", "string", "Of a swarm's volume", default="none", unsupported=_SWARM),
        Flag("topology-preferred", "list", "Of a swarm's volume", unsupported=_SWARM),
        Flag("topology-required", "list", "Of a swarm's volume", unsupported=_SWARM),
        Flag("type", "string", "Of a swarm's volume", default="block", unsupported=_SWARM),
    ),
    arguments=(0, 1),
)
