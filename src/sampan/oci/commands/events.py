"""`events ID`: a container's statistics at intervals, and when it was short of memory."""

from __future__ import annotations

import select
import sys
import time

from sampan.client.jsontext import dumps
from sampan.errors import Conflict, InvalidInput
from sampan.oci.options import Option
from sampan.runtime import control
from sampan.runtime.statistics import statistics
from sampan.units import parse_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation
    from sampan.oci.store import Record

USAGE = "[OPTIONS] ID"
OPTIONS = (
    Option("stats", "print the statistics once, and end", "flag"),
    Option("interval", "time between two statistics: 5s unless given"),
)
_LOOK_EVERY_S = 0.25


def perform(invocation: Invocation) -> int:
    """Print lines of JSON until the container ends."""
    record = invocation.store.find(invocation.id())
    if record.status == "stopped":
        raise Conflict(f"container {record.id} is not running")
    if invocation.given.flag("stats"):
        _say(record, "stats", statistics(record.cgroups))
        return 0
    interval_ns = parse_duration(invocation.given.value("interval", "5s"))
    if interval_ns <= 0:
        raise InvalidInput("duration interval must be greater than 0")
    _until_it_ends(record, interval_ns / 1e9)
    return 0


def _until_it_ends(record: Record, interval_s: float) -> None:
    """Count the kernel's kills four times a second: of both kinds of control groups, one file to read."""
    ended = select.poll()
    ended.register(record.pidfd(), select.POLLIN)
    due = time.monotonic() + interval_s
    kills = control.oom_kills(record.cgroups)
    while True:
        over = bool(ended.poll(max(0.0, min(_LOOK_EVERY_S, due - time.monotonic())) * 1000))
        now = control.oom_kills(record.cgroups)
        if now > kills:
            _say(record, "oom", None)
            kills = now
        if over:
            return
        if time.monotonic() >= due:
            due += interval_s
            _say(record, "stats", statistics(record.cgroups))


def _say(record: Record, kind: str, data: object) -> None:
    line = {"type": kind, "id": record.id} | ({} if data is None else {"data": data})
    sys.stdout.write(f"{dumps(line)}\n")
    sys.stdout.flush()
