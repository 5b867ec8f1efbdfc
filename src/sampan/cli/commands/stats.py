"""`sampan stats`: what containers use, as a table that is drawn anew each second."""

from __future__ import annotations

import os

from sampan.cli.command import Call, Command
from sampan.cli.each import LATEST
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.table import Listing
from sampan.client.jsontext import loads
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Sample = dict[str, Any]

_SHORT = 12
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def stats(call: Call) -> int:
    """Print the table once, or again and again until ctrl-C."""
    options = call.options
    text = options["format"] or str(call.session.config().get("statsFormat") or "")
    listing = listing_of(trunc=not options["no-trunc"])
    if text not in ("", "table"):
        listing.prepare(text)
    once, every = options["no-stream"], options["interval"]
    if every < 1:
        raise Failure(f"sampan: can't show stats every {every} seconds", "--interval is 1 or more", 125)
    target = f"/sampan/stats{query(name=call.arguments or None, all=options['all'], stream=None if not once else '0')}"
    answer = call.session.ask("GET", target)
    if once:
        write(listing.show(answer.json() or [], text))
        return 0
    drawn = os.isatty(1)
    if drawn:
        write("\x1b[2J")
    samples = (line for line in answer.lines() if line.strip())  # one a second
    for number, line in enumerate(samples):
        if number % every == 0:
            shown = listing.show(loads(line) or [], text)
            write(_HOME + shown.replace("\n", f"{_CLEAR_LINE}\n") + _CLEAR_BELOW if drawn else shown)
    return 0


def listing_of(*, trunc: bool) -> Listing:
    """Return what is shown of a sample."""
    columns: dict[str, Callable[..., Any]] = {
        "Container": lambda s: s["id"][:_SHORT] if trunc else s["id"],
        "ID": lambda s: s["id"][:_SHORT] if trunc else s["id"],
        "Name": lambda s: s["name"].removeprefix("/"),
        "CPUPerc": lambda s: f"{cpu_percent(s):.2f}%",
        "MemUsage": lambda s: f"{_binary(memory(s))} / {_binary(s['memory_stats'].get('limit', 0))}",
        "MemPerc": lambda s: f"{_memory_percent(s):.2f}%",
        "NetIO": lambda s: " / ".join(human_size3(_network(s, field)) for field in ("rx_bytes", "tx_bytes")),
        "BlockIO": lambda s: " / ".join(human_size3(_blocks(s, op)) for op in ("read", "write")),
        "PIDs": lambda s: str(s["pids_stats"].get("current", 0)),
    }
    return Listing("statsContext", columns, _HEADERS, _SHOWN)


_HEADERS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_SHOWN = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")


def cpu_percent(sample: Sample) -> float:
    """Return the share of processor time since the sample before: 100 is one processor."""
    now, before = sample["cpu_stats"], sample["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    if used <= 0 or passed <= 0 or not before.get("system_cpu_usage"):
        return 0.0
    return float(used / passed * now.get("online_cpus", 1) * 100)


def memory(sample: Sample) -> int:
    """Return the memory used less the part of the page cache that would be given up first."""
    found, stat = sample["memory_stats"], sample["memory_stats"].get("stats", {})
    usage: int = found.get("usage", 0)
    for name in ("total_inactive_file", "inactive_file"):  # cgroup v1, v2
        if name in stat:
            return usage - stat[name] if stat[name] < usage else usage
    return usage


def _memory_percent(sample: Sample) -> float:
    limit = sample["memory_stats"].get("limit", 0)
    return memory(sample) / limit * 100 if limit else 0.0


def _network(sample: Sample, field: str) -> int:
    return sum(link[field] for link in (sample.get("networks") or {}).values())


def _blocks(sample: Sample, op: str) -> int:
    rows = sample["blkio_stats"].get("io_service_bytes_recursive") or ()
    return sum(row["value"] for row in rows if row["op"] == op)


def _binary(size: float) -> str:
    """Return a size in binary units, `1.953GiB`: docker/go-units, BytesSize."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024:
            return f"{size:.4g}{unit}"
        size /= 1024
    return f"{size:.4g}EiB"


def human_size3(size: float) -> str:
    """Return a size in three digits, `1.98MB`: docker/go-units, HumanSizeWithPrecision."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.3g}EB"


COMMAND = Command(
    "stats [OPTIONS] [CONTAINER...]",
    "Display a live stream of what containers use",
    stats,
    flags=(
        Flag("all", "bool", "Show all containers, not only those that run", short="a"),
        Flag("format", "string", "table, table TEMPLATE, json or a Go template"),
        Flag("interval", "int", "Seconds between two tables", short="i", default=1),
        Flag(
            "no-stream",
            "bool",
            "Print it once and end: CPU since the last time within a minute, or of a tenth of a second",
        ),
        Flag("no-trunc", "bool", "Show ids whole"),
        LATEST,
    ),
    arguments=(0, None),
    choosers=("latest",),
)
