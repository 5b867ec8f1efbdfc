"""`sampan system df`: what the store holds."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.table import Listing, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Usage = dict[str, Any]


def df(call: Call) -> int:
    """Print a line for each kind of object."""
    usage = call.session.ask("GET", "/system/df").json()
    rows = [_images(usage), _containers(usage), _volumes(usage), _build_cache(usage)]
    listing = Listing(
        "diskUsageContext",
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
    write(listing.show(rows, call.options["format"]))
    return 0


def _reclaimable(row: Usage) -> str:
    text = human_size(row["reclaimable"])
    return f"{text} ({row['reclaimable'] * 100 // row['size']}%)" if row["size"] and row["reclaimable"] else text


def _images(usage: Usage) -> Usage:
    images = usage.get("Images") or []
    active = [image for image in images if (image.get("Containers") or 0) > 0]
    size = usage.get("LayersSize") or 0
    # Where the engine does not know what is shared (-1), Docker's client counts an image as free.
    used = sum(image["Size"] - image["SharedSize"] for image in active if image.get("SharedSize", -1) >= 0)
    return {
        "type": "Images",
        "total": len(images),
        "active": len(active),
        "size": size,
        "reclaimable": max(size - used, 0),
    }


def _containers(usage: Usage) -> Usage:
    containers = usage.get("Containers") or []
    active = [c for c in containers if c.get("State") in ("running", "paused", "restarting")]
    size = sum(c.get("SizeRw") or 0 for c in containers)
    used = sum(c.get("SizeRw") or 0 for c in active)
    return {
        "type": "Containers",
        "total": len(containers),
        "active": len(active),
        "size": size,
        "reclaimable": size - used,
    }


def _volumes(usage: Usage) -> Usage:
    volumes = [v["UsageData"] for v in usage.get("Volumes") or () if v.get("UsageData")]
    size = sum(max(v["Size"], 0) for v in volumes)
    active = [v for v in volumes if v["RefCount"] > 0]
    free = size - sum(max(v["Size"], 0) for v in active)
    return {"type": "Local Volumes", "total": len(volumes), "active": len(active), "size": size, "reclaimable": free}


def _build_cache(usage: Usage) -> Usage:
    records = usage.get("BuildCache") or []
    size = sum(r.get("Size") or 0 for r in records if not r.get("Shared"))
    active = [r for r in records if r.get("InUse")]
    free = size - sum(r.get("Size") or 0 for r in active if not r.get("Shared"))
    return {"type": "Build Cache", "total": len(records), "active": len(active), "size": size, "reclaimable": free}


COMMAND = Command(
    "df [OPTIONS]",
    "Show what images and containers take up",
    df,
    flags=(
        Flag("format", "string", "table, table TEMPLATE, json or a Go template"),
        Flag("verbose", "bool", "Each object", short="v", unsupported="it comes later"),
    ),
)
