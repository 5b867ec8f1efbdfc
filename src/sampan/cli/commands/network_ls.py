"""`sampan network ls`: the list of networks."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.moments import as_go
from sampan.cli.output import write
from sampan.cli.table import Listing, filters_of, natural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SHORT = 12
_RAW = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"


def ls(call: Call) -> int:
    """Print the networks by name."""
    options = call.options
    target = "/networks"
    if options["filter"]:
        from sampan.client.wire import query

        target += query(filters=filters_of(options["filter"]))
    text = options["format"] or str(call.session.config().get("networksFormat") or "")
    if text == "raw":
        text = "network_id: {{.ID}}" if options["quiet"] else _RAW
    listing = listing_of(trunc=not options["no-trunc"])
    quiet = "ID" if options["quiet"] and not options["format"] else ""
    if not quiet and text not in ("", "table"):
        listing.prepare(text)
    networks = sorted(call.session.ask("GET", target).json(), key=lambda network: natural(network["Name"]))
    write(listing.show(networks, text, quiet=quiet))
    return 0


def listing_of(*, trunc: bool) -> Listing:
    """Return what is shown of networks."""
    columns: dict[str, Callable[..., Any]] = {
        "ID": lambda n: n["Id"][:_SHORT] if trunc else n["Id"],
        "Name": lambda n: n["Name"],
        "Driver": lambda n: n["Driver"],
        "Scope": lambda n: n["Scope"],
        "IPv4": lambda n: _yes(n.get("EnableIPv4")),
        "IPv6": lambda n: _yes(n.get("EnableIPv6")),
        "Internal": lambda n: _yes(n.get("Internal")),
        "Labels": lambda n: ",".join(f"{name}={value}" for name, value in sorted((n.get("Labels") or {}).items())),
        "Label": lambda n, name: (n.get("Labels") or {}).get(name, ""),
        "CreatedAt": lambda n: as_go(n["Created"]),
    }
    listing = Listing("network.networkContext", columns, _HEADERS, ("ID", "Name", "Driver", "Scope"))
    listing.parse_error = listing.execute_error = "template parsing error"
    return listing


_HEADERS = {
    "ID": "NETWORK ID",
    "CreatedAt": "CREATED AT",
    **{name: name.upper() for name in ("Name", "Driver", "Scope", "IPv4", "IPv6", "Internal", "Labels")},
}


def _yes(value: object) -> str:
    return "true" if value else "false"


COMMAND = Command(
    "ls [OPTIONS]",
    "List networks",
    ls,
    flags=(
        Flag("filter", "filter", "Show those that match: dangling, driver, id, label, name, scope or type=VALUE",
             short="f"),
        Flag("format", "string", "table, table TEMPLATE, json or a Go template"),
        Flag("no-trunc", "bool", "Show ids whole"),
        Flag("quiet", "bool", "Show ids only", short="q"),
    ),
)  # fmt: skip
