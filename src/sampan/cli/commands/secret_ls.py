"""`sampan secret ls`: the list of secrets."""

from __future__ import annotations

import time

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.table import Listing, filters_of, natural
from sampan.units import format_ago, parse_timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def ls(call: Call) -> int:
    """Print the secrets by name."""
    options = call.options
    target = "/secrets"
    if options["filter"]:
        from sampan.client.wire import query

        target += query(filters=filters_of(options["filter"]))
    text = options["format"] or str(call.session.config().get("secretFormat") or "")
    listing = listing_of()
    quiet = "ID" if options["quiet"] and not options["format"] else ""
    if not quiet and text not in ("", "table"):
        listing.prepare(text)
    secrets = sorted(call.session.ask("GET", target).json(), key=lambda secret: natural(secret["Spec"]["Name"]))
    table = listing.show(secrets, text, quiet=quiet)
    headed = not quiet and (not text or text.startswith("table"))
    write(table.partition("\n")[2] if options["noheading"] and headed else table)
    return 0


def listing_of() -> Listing:
    """Return what is shown of secrets."""
    now = time.time()
    columns: dict[str, Callable[..., Any]] = {
        "ID": lambda s: s["ID"],
        "Name": lambda s: s["Spec"]["Name"],
        "Driver": lambda s: (s["Spec"].get("Driver") or {}).get("Name", ""),
        "CreatedAt": lambda s: _ago(s["CreatedAt"], now),
        "UpdatedAt": lambda s: _ago(s["UpdatedAt"], now),
        "Labels": lambda s: ",".join(f"{name}={value}" for name, value in sorted(_labels(s).items())),
        "Label": lambda s, name: _labels(s).get(name, ""),
    }
    listing = Listing("secret.secretContext", columns, _HEADERS, ("ID", "Name", "Driver", "CreatedAt", "UpdatedAt"))
    listing.parse_error = listing.execute_error = "template parsing error"
    return listing


_HEADERS = {
    "CreatedAt": "CREATED",
    "UpdatedAt": "UPDATED",
    **{name: name.upper() for name in ("ID", "Name", "Driver", "Labels")},
}


def _labels(secret: Any) -> dict[str, str]:
    return secret["Spec"].get("Labels") or {}


def _ago(text: str, now: float) -> str:
    return f"{format_ago(now - parse_timestamp(text) / 1e9)} ago"


COMMAND = Command(
    "ls [OPTIONS]",
    "List secrets",
    ls,
    flags=(
        Flag("filter", "filter", "Show those that match: id, label, name or names=VALUE", short="f"),
        Flag("format", "string", "table, table TEMPLATE, json or a Go template"),
        Flag("noheading", "bool", "Leave the line with the columns' names out"),
        Flag("quiet", "bool", "Show ids only", short="q"),
    ),
)
