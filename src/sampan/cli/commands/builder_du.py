"""`sampan builder du`: what the build cache takes."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import say, write
from sampan.cli.table import human_size, last_used, tabulate
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Record = dict[str, Any]


def du(call: Call) -> int:
    """Print a line for each entry, the ones used last first, and the sums; with --verbose all that is known."""
    usage = call.session.ask("GET", f"/system/df{query(type='build-cache')}").json()
    records = sorted(usage.get("BuildCache") or (), key=_used, reverse=True)
    if call.options["format"]:
        return _formatted(records, call.options["format"])
    if call.options["verbose"]:
        for record in records:
            write(_all_of(record))
    else:
        write(_table(records))
    for title, size in _sums(records).items():
        say(f"{title + ':':<16}{human_size(size)}")
    return 0


def _used(record: Record) -> float:
    from sampan.units import parse_timestamp

    moment = record.get("LastUsedAt") or record.get("CreatedAt")
    return parse_timestamp(moment) / 1e9 if moment else 0.0


def _table(records: list[Record]) -> str:
    import time

    now = time.time()
    rows = [["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"]]
    for record in records:
        size = human_size(record.get("Size") or 0) + ("*" if record.get("Shared") else "")
        rows.append([record["ID"], _yes(not record.get("InUse")), size, last_used(_used(record), now)])
    return tabulate(rows)


def _all_of(record: Record) -> str:
    shown = {
        "ID": record["ID"],
        "Parents": ", ".join(record.get("Parents") or ()),
        "Created at": record.get("CreatedAt", ""),
        "Mutable": "",
        "Reclaimable": _yes(not record.get("InUse")),
        "Shared": _yes(bool(record.get("Shared"))),
        "Size": human_size(record.get("Size") or 0),
        "Description": record.get("Description", ""),
        "Usage count": str(record.get("UsageCount") or 0),
        "Last used": record.get("LastUsedAt") or "",
        "Type": record.get("Type", ""),
    }
    return "".join(f"{name + ':':<16}{value}\n" for name, value in shown.items() if value) + "\n"


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _sums(records: list[Record]) -> dict[str, int]:
    """Return the sums; what other images or entries have, too, is counted as shared."""
    shared = sum(record.get("Size") or 0 for record in records if record.get("Shared"))
    total = sum(record.get("Size") or 0 for record in records)
    free = sum(record.get("Size") or 0 for record in records if not record.get("InUse") and not record.get("Shared"))
    return {"Shared": shared, "Private": total - shared, "Reclaimable": free, "Total": total}


def _formatted(records: list[Record], format: str) -> int:
    from sampan.cli.disk_usage import build_cache

    write(build_cache(trunc=False).show(records, format))
    return 0


COMMAND = Command(
    "du [OPTIONS]",
    "Show what the build cache takes up",
    du,
    flags=(
        Flag("format", "string", "table TEMPLATE, json or a Go template"),
        Flag("verbose", "bool", "All that is known of each entry"),
    ),
)
