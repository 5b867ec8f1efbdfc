"""`system df -v`: every object with the room it takes, in four tables, or as one document for --format."""

from __future__ import annotations

import time

from sampan.cli.commands import images, ps, volume_ls
from sampan.cli.table import Listing, human_size
from sampan.units import format_ago

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.template_values import Row

    Usage = dict[str, Any]

_SHORT = 12


def tables(usage: Usage) -> str:
    """Return a table of each kind, as Docker's client prints them."""
    listings = _listings(trunc=True)
    parts = [
        "Images space usage:\n\n" + listings["Images"].show(_images(usage), ""),
        "Containers space usage:\n\n" + listings["Containers"].show(_containers(usage), ""),
        "Local Volumes space usage:\n\n" + listings["Volumes"].show(usage.get("Volumes") or [], ""),
        f"Build cache usage: {human_size(cache_size(usage))}\n\n"
        + listings["BuildCache"].show(usage.get("BuildCache") or [], ""),
    ]
    return "\n".join(parts)


def document(usage: Usage) -> Row:
    """Return what a template sees: a list of rows for each kind."""
    from sampan.cli.template_values import Row

    items = {
        "Images": _images(usage),
        "Containers": _containers(usage),
        "Volumes": usage.get("Volumes") or [],
        "BuildCache": usage.get("BuildCache") or [],
    }
    listings = _listings(trunc=False)
    rows = {
        kind: [Row(listings[kind].columns, item, listings[kind].type) for item in found]
        for kind, found in items.items()
    }
    columns = {kind: (lambda found, kind=kind: found[kind]) for kind in rows}
    return Row(columns, rows, "formatter.diskUsageContext")


def cache_size(usage: Usage) -> int:
    """Return the bytes of the build cache, without what it shares with images."""
    return sum(record.get("Size") or 0 for record in usage.get("BuildCache") or () if not record.get("Shared"))


def _images(usage: Usage) -> list[Usage]:
    """One line for each image, by its first tag."""
    found = []
    for image in usage.get("Images") or ():
        names = image.get("RepoTags") or ["<none>:<none>"]
        repository, tag = images.split(names[0])
        found.append({**image, "repository": repository, "tag": tag, "digest": ""})
    return found


def _containers(usage: Usage) -> list[Usage]:
    """What a container wrote itself is told here, not what it has with its image."""
    return [{**container, "SizeRootFs": 0} for container in usage.get("Containers") or ()]


def _listings(*, trunc: bool) -> dict[str, Listing]:
    listings = {
        "Images": images.listing_of(trunc=trunc),
        "Containers": ps.listing_of(trunc=trunc, size=True),
        "Volumes": volume_ls.listing_of(),
        "BuildCache": build_cache(trunc=trunc),
    }
    shown = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
    listings["Images"].default = shown
    listings["Volumes"].default = ("Name", "Links", "Size")
    shown = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    listings["Containers"].default = shown
    return listings


def build_cache(*, trunc: bool) -> Listing:
    """Return what can be shown of an entry of the build cache."""
    now = time.time()
    columns = {
        "ID": lambda c: _cache_id(c, trunc=trunc),
        "Parent": lambda c: c.get("Parent") or "",
        "CacheType": lambda c: c.get("Type") or "",
        "Description": lambda c: c.get("Description") or "",
        "InUse": lambda c: _truth(c.get("InUse")),
        "Shared": lambda c: _truth(c.get("Shared")),
        "Size": lambda c: human_size(c.get("Size") or 0),
        "CreatedAt": lambda c: _utc(c.get("CreatedAt")),
        "CreatedSince": lambda c: _since(c.get("CreatedAt"), now),
        "LastUsedAt": lambda c: _utc(c.get("LastUsedAt")),
        "LastUsedSince": lambda c: _since(c.get("LastUsedAt"), now),
        "UsageCount": lambda c: str(c.get("UsageCount") or 0),
    }
    headers = {
        "ID": "CACHE ID",
        "CacheType": "CACHE TYPE",
        "Size": "SIZE",
        "CreatedSince": "CREATED",
        "LastUsedSince": "LAST USED",
        "UsageCount": "USAGE",
        "Shared": "SHARED",
    }
    return Listing("buildCacheContext", columns, headers, tuple(headers))


def _cache_id(record: Usage, *, trunc: bool) -> str:
    id = record["ID"][:_SHORT] if trunc else record["ID"]
    return f"{id}*" if record.get("InUse") else id


def _truth(value: object) -> str:
    return "true" if value else "false"


def _utc(text: str | None) -> str:
    return (text or "").replace("T", " ").replace("Z", " +0000 UTC")


def _since(text: str | None, now: float) -> str:
    from sampan.units import parse_timestamp

    return f"{format_ago(now - parse_timestamp(text) / 1e9)} ago" if text else ""
