"""`sampan top`: the processes of a container."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import LATEST, container
from sampan.cli.output import write
from sampan.client.wire import query


def top(call: Call) -> int:
    """Print the processes as ps(1) would, with its options, or the columns that Podman's descriptors name."""
    name, *words = call.arguments
    answer = call.session.ask("GET", container(name, f"/top{query(ps_args=' '.join(words))}")).json()
    rows = [answer["Titles"], *(answer["Processes"] or [])]
    write(_columns([[str(cell) for cell in row] for row in rows]))
    return 0


def _columns(rows: list[list[str]]) -> str:
    """Return rows in columns, twenty wide at least; the last one is as long as it is."""
    widths = [max(20, *(len(row[i]) + 3 for row in rows if i < len(row))) for i in range(len(rows[0]))]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1] + "\n"
        for row in rows
    )


COMMAND = Command(
    "top CONTAINER [ps OPTIONS|DESCRIPTOR...]",
    "Display the running processes of a container: as ps does, or Podman's columns: pid, user, hpid, seccomp, capeff …",
    top,
    flags=(LATEST,),
    arguments=(1, None),
    choosers=("latest",),
    interspersed=False,
)
