"""`ps ID [PS OPTIONS]`: the container's processes, as the host numbers them."""

from __future__ import annotations

import subprocess
import sys

from sampan.client.jsontext import dumps
from sampan.errors import Conflict, Failed, InvalidInput
from sampan.oci.options import Option
from sampan.runtime import control

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation

USAGE = "[OPTIONS] ID [PS OPTIONS]"
OPTIONS = (Option("format f", "table (what ps(1) prints) or json (a list of pids)"),)


def perform(invocation: Invocation) -> int:
    """Print the processes."""
    style = invocation.given.value("format", "table")
    if style not in ("table", "json"):
        raise InvalidInput(f"invalid format option: {style}", "it is table or json")
    id, *words = invocation.given.arguments or [""]
    record = invocation.store.find(id)
    if record.status == "stopped":
        raise Conflict(f"container {record.id} is not running")
    pids = control.processes(record.cgroups) or [record.pid]
    sys.stdout.write(f"{dumps(pids)}\n" if style == "json" else _table(pids, words or ["-ef"]))
    return 0


def _table(pids: list[int], words: list[str]) -> str:
    done = subprocess.run(["ps", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"can't list the processes: ps {' '.join(words)}: {done.stderr.strip()}")
    head, *rows = done.stdout.splitlines()
    titles = head.split()
    if "PID" not in titles:
        raise InvalidInput("can't tell the container's processes from others: ps prints no column PID")
    column, wanted = titles.index("PID"), {str(pid) for pid in pids}
    kept = [row for row in rows if len(cells := row.split()) > column and cells[column] in wanted]
    return "".join(f"{line}\n" for line in (head, *kept))
