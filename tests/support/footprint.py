"""What an instance holds of the machine: descriptors, processes, mounts, control groups, links, rows, memory."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from sampan.client.wire import Connection
from support.sampan import Sampan

STRAY = 3
"""How many descriptors or threads more there may be: connections that are just ending."""
RESTING = 8
"""How many threads of a server wait for a next connection, at most."""


def fill_threads(sampan: Sampan) -> None:
    """Have as many threads rest as ever do: how many clients there were at once before makes no difference then."""
    connections = [Connection(str(sampan.socket)) for _ in range(RESTING + 2)]
    for connection in connections:
        connection.request("GET", "/_ping").read()
    for connection in connections:
        connection.close()


def footprint(sampan: Sampan) -> dict[str, int]:
    """Count, and measure in KiB; to be compared with another moment in which as many containers run."""
    fill_threads(sampan)
    server, keeper = sampan.info("ServerPid"), sampan.info("KeeperPid")
    found = {"server fds": _count(f"/proc/{server}/fd"), "server threads": _count(f"/proc/{server}/task")}
    found |= {
        "server KiB": _anonymous_kib(server),
        "keeper fds": _count(f"/proc/{keeper}/fd"),
        "keeper KiB": _anonymous_kib(keeper),
    }
    found["processes"] = len([pid for pid, text in sampan.ours() if "supervise" in text or "server" in text])
    mounts = [line for pid in (keeper, os.getpid()) for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    found["mounts"] = sum(str(sampan.root) in line for line in mounts)  # others' come and go as well
    found["cgroups"] = len(sampan.cgroups())
    found["links"] = len(sampan.links())
    found["firewall lines"] = len(_firewall(sampan).splitlines())
    places = ("containers", "tmp", "volumes", "run", "run/shims")
    found["entries"] = sum(_count(sampan.root / place) for place in places if (sampan.root / place).is_dir())
    return {**found, **_rows(sampan.root)}


def leaked(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return what has grown, but for memory."""
    allowed = {"server fds": STRAY, "server threads": STRAY, "keeper fds": 0}
    counted = [name for name in before if name != "lives" and not name.endswith("KiB")]
    return {name: (before[name], after[name]) for name in counted if after[name] > before[name] + allowed.get(name, 0)}


def _count(directory: str | Path) -> int:
    return len(os.listdir(directory))


def _anonymous_kib(pid: int) -> int:
    """Memory that is no file's: how much of the others it is charged with depends on who else has mapped them."""
    (line,) = (x for x in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if x.startswith("Anonymous:"))
    return int(line.split()[1])


def _firewall(sampan: Sampan) -> str:
    command = ["nft", "list", "table", "inet", f"sampan-{sampan.instance}"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def _rows(root: Path) -> dict[str, int]:
    """Rows of the state, without the exits of `--rm` that are remembered for ten minutes."""
    path = root / "state.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        tables = ("containers", "volumes", "networks")
        return {f"rows of {table}": db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
