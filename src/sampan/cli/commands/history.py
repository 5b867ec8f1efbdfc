"""`sampan history`: how an image came to be."""

from __future__ import annotations

import time

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.platforms import as_json
from sampan.cli.table import Listing, ellipsis
from sampan.client.wire import query, quote
from sampan.units import format_ago, format_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Item = dict[str, Any]

_SHORT = 12
_CREATED_BY = 45


def history(call: Call) -> int:
    """Print an image's history, newest first."""
    options = call.options
    platform = query(platform=as_json(options["platform"]))
    items = call.session.ask("GET", f"/images/{quote(call.arguments[0])}/history{platform}").json()
    listing = _listing(trunc=not options["no-trunc"], human=options["human"])
    quiet = "ID" if options["quiet"] and not options["format"] else ""
    write(listing.show(items, options["format"], quiet=quiet))
    return 0


def _listing(*, trunc: bool, human: bool) -> Listing:
    now = time.time()
    columns = {
        "ID": lambda h: h["Id"].removeprefix("sha256:")[:_SHORT] if trunc else h["Id"],
        "CreatedSince": lambda h: _since(h, now) if human else _stamp(h),
        "CreatedAt": _stamp,
        "CreatedBy": lambda h: _created_by(h, trunc=trunc),
        "Size": lambda h: format_bytes(h["Size"]) if human else str(h["Size"]),
        "Comment": lambda h: h["Comment"],
    }
    headers = {
        "ID": "IMAGE",
        "CreatedSince": "CREATED" if human else "CREATED AT",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    }
    listing = Listing("image.historyContext", columns, headers, ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"))
    listing.parse_error = listing.execute_error = "template parsing error"
    return listing


def _since(item: Item, now: float) -> str:
    return f"{format_ago(now - item['Created'])} ago" if item["Created"] > 0 else "N/A"


def _stamp(item: Item) -> str:
    zone = time.strftime("%z", time.localtime(item["Created"]))
    shown = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(item["Created"])) + shown


def _created_by(item: Item, *, trunc: bool) -> str:
    text: str = item["CreatedBy"].replace("\t", " ")
    return ellipsis(text, _CREATED_BY) if trunc else text


COMMAND = Command(
    "history [OPTIONS] IMAGE",
    "Show the history of an image",
    history,
    flags=(
        Flag("format", "string", "table, table TEMPLATE, json or a Go template"),
        Flag("human", "bool", "Print sizes and times for people", short="H", default=True),
        Flag("no-trunc", "bool", "Show ids and commands whole"),
        Flag("platform", "string", "If it is for this: OS[/ARCH[/VARIANT]]"),
        Flag("quiet", "bool", "Show ids only", short="q"),
    ),
    arguments=(1, 1),
)
