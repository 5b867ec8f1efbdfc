"""`sampan network create`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import say, warn
from sampan.cli.subnets import subnets_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def create(call: Call) -> int:
    """Make it and print its id."""
    answer = call.session.ask("POST", "/networks/create", _body(call)).json()
    if answer.get("Warning"):
        warn(f"WARNING: {answer['Warning']}")
    say(answer["Id"])
    return 0


def _body(call: Call) -> dict[str, Any]:
    options = call.options
    body: dict[str, Any] = {
        "Name": call.arguments[0],
        "Driver": options["driver"],
        "Scope": options["scope"],
        "IPAM": {
            "Driver": options["ipam-driver"],
            "Options": dict(options["ipam-opt"]),
            "Config": subnets_of(options),
        },
        "Internal": options["internal"],
        "Attachable": options["attachable"],
        "Ingress": options["ingress"],
        "ConfigOnly": options["config-only"],
        "Options": dict(options["opt"]),
        "Labels": dict(options["label"]),
    }
    if options["config-from"]:
        body["ConfigFrom"] = {"Network": options["config-from"]}
    for version in ("ipv4", "ipv6"):
        if version in options:
            body[f"EnableIP{version[2:]}"] = options[version]
    return body


COMMAND = Command(
    "create [OPTIONS] NETWORK",
    "Create a network",
    create,
    flags=(
        Flag("attachable", "bool", "Every network is: accepted and shown by inspect"),
        Flag("aux-address", "map", "An address never to give to a container: NAME=ADDRESS"),
        Flag("config-from", "string", "Take the configuration of this network, made with --config-only"),
        Flag("config-only", "bool", "Only keep the configuration, for others to take"),
        Flag("driver", "string", "bridge, macvlan or ipvlan", short="d", default="bridge"),
        Flag("gateway", "csv", "Address of the gateway, one for each subnet"),
        Flag("ingress", "bool", "The routing mesh of a swarm, which there is not"),
        Flag("internal", "bool", "Nothing on it reaches, or is reached from, beyond it"),
        Flag("ip-range", "csv", "Give addresses from this part of a subnet only"),
        Flag("ipam-driver", "string", "What gives addresses", default="default"),
        Flag("ipam-opt", "map", "Option of that: NAME=VALUE"),
        Flag("ipv4", "bool", "Give IPv4 addresses", default=True),
        Flag("ipv6", "bool", "Give IPv6 addresses"),
        Flag("label", "label", "Set a label: NAME[=VALUE]"),
        Flag("opt", "map", "Option of the driver: com.docker.network.driver.mtu=1400, parent=eth0, …", short="o"),
        Flag("scope", "string", "local is the only one"),
        Flag("subnet", "csv", "A subnet, 172.28.0.0/16; without it one is chosen that the host has no route to"),
    ),
    arguments=(1, 1),
)
