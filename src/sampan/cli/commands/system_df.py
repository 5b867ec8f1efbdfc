"""`sampan system df`: what the store holds."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.table import Listing, ellipsis, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Usage = dict[str, Any]


_NAME = 40
_PRUNES = {
    "image": "sampan image prune",
    "container": "sampan container prune",
    "volume": "sampan volume prune",
    "network": "sampan network prune",
    "build-cache": "sampan builder prune",
}
"""Each kind, and the command that removes what nothing uses of it."""
_REASON_HEADERS = {
    "Type": "TYPE",
    "ID": "ID",
    "Name": "NAME",
    "Size": "SIZE",
    "Frees": "FREES",
    "Why": "WHY IT IS HERE",
    "FreedBy": "FREED BY",
}


def df(call: Call) -> int:
    """Print a line for each kind of object; with --verbose one for each object."""
    if call.options["why"]:
        return _why(call)
    usage = call.session.ask("GET", "/system/df").json()
    if call.options["verbose"]:
        return _verbose(usage, call.options["format"])
    rows = [_images(usage), _containers(usage), _volumes(usage), _build_cache(usage)]
    listing = Listing(
        "formatter.diskUsageImagesContext",
        {
            "Type": lambda row: row["type"],
            "TotalCount": lambda row: str(row["total"]),
            "Active": lambda row: str(row["active"]),
            "Size": lambda row: human_size(row["size"]),
            "Reclaimable": _reclaimable,
        },
        {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"},
        ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
    )
    listing.parse_error = listing.execute_error = "template parsing error"
    write(listing.show(rows, call.options["format"]))
    return 0


def _why(call: Call) -> int:
    """Print what would free each object, and why nothing does: of each kind the largest first."""
    listing = Listing(
        "formatter.diskUsageReasonContext",
        {
            "Type": lambda item: item["Kind"],
            "ID": lambda item: item["ID"],
            "Name": lambda item: ellipsis(item["Name"], _NAME),
            "Size": lambda item: human_size(item["Size"]),
            "Frees": lambda item: human_size(item["Freed"]),
            "Why": lambda item: item["Kept"] or "nothing uses it",
            "FreedBy": lambda item: item["Instead"] if item["Kept"] else _PRUNES[item["Kind"]],
        },
        _REASON_HEADERS,
        ("Type", "Name", "Size", "Frees", "Why", "FreedBy"),
    )
    listing.parse_error = listing.execute_error = "template parsing error"
    items = []
    for kind in _PRUNES:  # each alone: what goes only when the containers have gone is not free to go
        plan = call.session.ask("GET", f"/sampan/prune?kind={kind}").json()
        items += sorted(plan["Items"], key=lambda item: -item["Size"])
    write(listing.show(items, call.options["format"]))
    return 0


def _verbose(usage: Usage, format: str) -> int:
    from sampan.cli.disk_usage import document, tables

    if format in ("", "table"):
        write(tables(usage))
        return 0
    from sampan.cli.template import TemplateError
    from sampan.cli.template_functions import to_json
    from sampan.cli.templated import parsed

    found = document(usage)
    if format == "json":
        kinds = ",".join(f'"{kind}":{to_json(rows(found.item))}' for kind, rows in found.columns.items())
        write(f"{{{kinds}}}")
        return 0
    try:
        write(parsed(format).execute(found))
    except TemplateError as e:
        raise Failure(str(e)) from None
    return 0


def _reclaimable(row: Usage) -> str:
    text = human_size(row["reclaimable"])
    return f"{text} ({row['reclaimable'] * 100 // row['size']}%)" if row["size"] and row["percent"] else text


def _images(usage: Usage) -> Usage:
    images = usage.get("Images") or []
    active = [image for image in images if (image.get("Containers") or 0) > 0]
    size = usage.get("LayersSize") or 0
    free = usage.get("LayersReclaimable")
    if free is None:  # another engine's answer: Docker's client takes for free what images in use share
        free = size - sum(image["Size"] - image["SharedSize"] for image in active if image.get("SharedSize", -1) >= 0)
    return _row("Images", images, active, size, free)


def _containers(usage: Usage) -> Usage:
    containers = usage.get("Containers") or []
    active = [c for c in containers if c.get("State") in ("running", "paused", "restarting")]
    size = sum(c.get("SizeRw") or 0 for c in containers)
    used = sum(c.get("SizeRw") or 0 for c in active)
    return _row("Containers", containers, active, size, size - used)


def _volumes(usage: Usage) -> Usage:
    volumes = [v["UsageData"] for v in usage.get("Volumes") or () if v.get("UsageData")]
    size = sum(max(v["Size"], 0) for v in volumes)
    active = [v for v in volumes if v["RefCount"] > 0]
    free = size - sum(max(v["Size"], 0) for v in active)
    return _row("Local Volumes", volumes, active, size, free)


def _build_cache(usage: Usage) -> Usage:
    records = usage.get("BuildCache") or []
    own = [r for r in records if not r.get("Shared")]
    active = [r for r in records if r.get("InUse")]
    size = sum(r.get("Size") or 0 for r in own)
    free = sum(r.get("Size") or 0 for r in own if not r.get("InUse"))
    return {**_row("Build Cache", records, active, size, free), "percent": False}


def _row(kind: str, found: list[Usage], active: list[Usage], size: int, free: int) -> Usage:
    return {
        "type": kind,
        "total": len(found),
        "active": len(active),
        "size": size,
        "reclaimable": free,
        "percent": True,
    }


COMMAND = Command(
    "df [OPTIONS]",
    "Show what images and containers take up",
    df,
    flags=(
        Flag("format", "string", "table, table TEMPLATE, json or a Go template"),
        Flag("verbose", "bool", "Each object", short="v"),
        Flag("why", "bool", "Each object, what would free it, or why it can't be freed"),
    ),
)
