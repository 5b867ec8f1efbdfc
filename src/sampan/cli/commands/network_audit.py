"""`sampan network audit`: which published ports the world reaches, and which rule lets it."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.table import Listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Port = dict[str, Any]

_REACH = {
    "world": "the world",
    "neighbours": "the host's networks",
    "host": "this host",
    "nobody": "nobody",
}


def audit(call: Call) -> int:
    """Print the ports, and what was changed on the host; with --format the ports alone."""
    text = str(call.options["format"])
    listing = _listing()
    if text not in ("", "table"):
        listing.prepare(text)
    found = call.session.ask("GET", "/sampan/networks/audit").json()
    ports = sorted(found["Ports"], key=lambda p: (list(_REACH).index(p["Reach"]), p["Container"], p["HostPort"]))
    write(listing.show(ports, text))
    if found["Changes"] and text in ("", "table"):
        write("\nchanged on this host for networks:\n" + "".join(f"  {change}\n" for change in found["Changes"]))
    return 0


def _listing() -> Listing:
    columns = {
        "Container": lambda p: p["Container"],
        "ContainerID": lambda p: p["ContainerId"],
        "Port": _port,
        "Target": lambda p: p["Target"],
        "Reach": lambda p: p["Reach"],
        "ReachedFrom": lambda p: _REACH[p["Reach"]],
        "Addresses": lambda p: ", ".join(p["Addresses"]),
        "Rule": lambda p: p["Rule"],
    }
    listing = Listing(
        "network.audit", columns, _HEADERS, ("Container", "Port", "Target", "ReachedFrom", "Addresses", "Rule")
    )
    listing.parse_error = listing.execute_error = "template parsing error"
    return listing


_HEADERS = {
    "Container": "CONTAINER",
    "ContainerID": "CONTAINER ID",
    "Port": "PORT",
    "Target": "LEADS TO",
    "Reach": "REACH",
    "ReachedFrom": "REACHED FROM",
    "Addresses": "BY",
    "Rule": "RULE",
}


def _port(port: Port) -> str:
    host = f"[{port['HostIp']}]" if ":" in port["HostIp"] else port["HostIp"]
    return f"{host}:{port['HostPort']}/{port['Protocol']}"


COMMAND = Command(
    "audit [OPTIONS]",
    "Show who reaches the published ports, and by which rule",
    audit,
    flags=(Flag("format", "string", "table, table TEMPLATE, json or a Go template"),),
)
