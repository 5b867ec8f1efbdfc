"""`sampan network connect`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import network
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.values import parse_driver_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def connect(call: Call) -> int:
    """Put a container on a network."""
    name, container = call.arguments
    target = network(name, "/connect")
    if not container.strip():
        raise Failure("invalid container name or ID: value is empty")
    call.session.ask("POST", target, {"Container": container, "EndpointConfig": _endpoint(call)})
    return 0


def _endpoint(call: Call) -> dict[str, Any]:
    options = call.options
    addresses = {"IPv4Address": options["ip"], "IPv6Address": options["ip6"], "LinkLocalIPs": options["link-local-ip"]}
    return {
        "IPAMConfig": {field: value for field, value in addresses.items() if value},
        "Links": options["link"],
        "Aliases": options["alias"],
        "DriverOpts": _driver_options(options["driver-opt"]),
        "GwPriority": options["gw-priority"],
    }


def _driver_options(given: list[str]) -> dict[str, str]:
    try:
        return dict(parse_driver_option(text) for text in given)
    except ValueError:
        raise Failure("invalid key/value pair format in driver options", "write it as NAME=VALUE") from None


COMMAND = Command(
    "connect [OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    connect,
    flags=(
        Flag("alias", "csv", "Another name for it on this network"),
        Flag("driver-opt", "csv", "Option of the driver: NAME=VALUE"),
        Flag("gw-priority", "int", "Of its networks the one with the greatest has the default route", default=0),
        Flag("ip", "string", "IPv4 address"),
        Flag("ip6", "string", "IPv6 address"),
        Flag("link", "link", "Know another container by a name: CONTAINER[:ALIAS]"),
        Flag("link-local-ip", "csv", "Link-local address"),
    ),
    arguments=(2, 2),
)
