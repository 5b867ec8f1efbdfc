"""`sampan volume ls`: the list of volumes."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.table import Listing, filters_of, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Volume = dict[str, Any]

_RAW = "name: {{.Name}}\ndriver: {{.Driver}}\n"


def ls(call: Call) -> int:
    """Print the volumes by name."""
    options = call.options
    target = "/volumes"
    if options["filter"]:
        from sampan.client.wire import query

        target += query(filters=filters_of(options["filter"]))
    text = options["format"] or str(call.session.config().get("volumesFormat") or "")
    if text == "raw":
        text = "name: {{.Name}}" if options["quiet"] else _RAW
    listing = listing_of()
    quiet = "Name" if options["quiet"] and not options["format"] else ""
    if not quiet and text not in ("", "table"):
        listing.prepare(text)
    write(listing.show(call.session.ask("GET", target).json()["Volumes"] or [], text, quiet=quiet))
    return 0


def listing_of() -> Listing:
    """Return what is shown of volumes."""
    columns: dict[str, Callable[..., Any]] = {
        "Name": lambda v: v["Name"],
        "Driver": lambda v: v["Driver"],
        "Scope": lambda v: v["Scope"],
        "Mountpoint": lambda v: v["Mountpoint"],
        "Labels": lambda v: ",".join(f"{name}={value}" for name, value in sorted((v.get("Labels") or {}).items())),
        "Label": lambda v, name: (v.get("Labels") or {}).get(name, ""),
        "Links": lambda v: _known(v, "RefCount", str),
        "Size": lambda v: _known(v, "Size", human_size),
        **{name: lambda _: "N/A" for name in ("Availability", "Group", "Status")},
    }
    listing = Listing("volumeContext", columns, _HEADERS, ("Driver", "Name"))
    listing.parse_error = listing.execute_error = "template parsing error"
    return listing


_HEADERS = {
    "Name": "VOLUME NAME",
    **{name: name.upper() for name in ("Driver", "Scope", "Mountpoint", "Labels", "Links", "Size")},
    **{name: name.upper() for name in ("Availability", "Group", "Status")},
}


def _known(volume: Volume, field: str, shown: Any) -> str:
    number = (volume.get("UsageData") or {}).get(field, -1)
    return str(shown(number)) if number >= 0 else "N/A"


COMMAND = Command(
    "ls [OPTIONS]",
    "List volumes",
    ls,
    flags=(
        Flag("cluster", "bool", "Volumes of a swarm", unsupported="sampan is an engine for one machine"),
        Flag("filter", "filter", "Show those that match: dangling, driver, label or name=VALUE", short="f"),
        Flag("format", "string", "table, table TEMPLATE, json or a Go template"),
        Flag("quiet", "bool", "Show names only", short="q"),
    ),
)
