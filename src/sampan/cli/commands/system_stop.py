"""`sampan system stop`: end the engine of this instance. The next command starts it again."""

from __future__ import annotations

import os
import time

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say
from sampan.client.wire import Connection, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.session import Session

_PATIENCE_S = 15


def stop(call: Call) -> int:
    """Ask keeper and server to end; containers that run are a reason to refuse, or are left alone under --force."""
    path = call.session.socket
    try:
        Connection(path).connect()
        was = _identity(path)
    except Unreachable:
        say("nothing runs")
        return 0
    running = call.session.ask("GET", "/containers/json").json()
    if running and not call.options["force"]:
        names = ", ".join((c["Names"] or [c["Id"][:12]])[0].removeprefix("/") for c in running[:5])
        count = "a container runs" if len(running) == 1 else f"{len(running)} containers run"
        raise Failure(
            f"sampan: can't stop the engine: {count}: {names}",
            "stop them, or leave them running on their own: sampan system stop --force",
        )
    end_engine(call.session, was)
    return 0


def end_engine(session: Session, was: tuple[int, int] | None = None) -> None:
    """Have keeper and server end, and wait until they have; `was` is the socket's identity."""
    path = session.socket
    was = was or _identity(path)
    listed = _is_listed(path)
    session.ask("POST", "/sampan/stop").read()
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        # To connect would be a reason for another server. A keeper that was killed just now leaves the file.
        if _identity(path) != was or (listed and not _is_listed(path)):
            return
        time.sleep(0.02)
    raise Failure(f"sampan: can't stop the engine: its socket is still there after {_PATIENCE_S} s")


def _identity(path: str) -> tuple[int, int] | None:
    """Tell one socket from the next of the same path; None where there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns


def _is_listed(path: str) -> bool:
    """Whether somebody has the socket open; never so from another network namespace than theirs."""
    with open("/proc/net/unix", "rb") as file:
        return b" %s\n" % os.fsencode(path) in file.read()


COMMAND = Command(
    "stop [OPTIONS]",
    "End the engine; the next command starts it again",
    stop,
    flags=(Flag("force", "bool", "Also while containers run: they run on", short="f"),),
)
