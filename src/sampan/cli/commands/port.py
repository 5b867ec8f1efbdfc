"""`sampan port`: the published ports of a container."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import container
from sampan.cli.failure import Failure
from sampan.cli.output import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def port(call: Call) -> int:
    """Print all of them, or where one is published."""
    name = call.arguments[0]
    inspected = call.session.ask("GET", container(name, "/json")).json()
    ports: dict[str, Any] = (inspected.get("NetworkSettings") or {}).get("Ports") or {}
    if len(call.arguments) == 1:
        for private in sorted(ports):
            for line in _addresses(ports[private]):
                say(f"{private} -> {line}")
        return 0
    private = call.arguments[1]
    private = private if "/" in private else f"{private}/tcp"
    lines = _addresses(ports.get(private))
    if not lines:
        raise Failure(f"Error: No public port '{call.arguments[1]}' published for {name}")
    for line in lines:
        say(line)
    return 0


def _addresses(bindings: list[dict[str, str]] | None) -> list[str]:
    found = []
    for binding in bindings or ():
        address = binding["HostIp"]
        found.append(f"[{address}]:{binding['HostPort']}" if ":" in address else f"{address}:{binding['HostPort']}")
    return found


COMMAND = Command(
    "port CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    port,
    arguments=(1, 2),
)
