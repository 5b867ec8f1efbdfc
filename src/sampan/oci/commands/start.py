"""`start ID`: let a created container execute its program."""

from __future__ import annotations

import os

from sampan.errors import Conflict, SampanError
from sampan.oci.store import GATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation
    from sampan.oci.store import Record

USAGE = "ID"
OPTIONS = ()


def perform(invocation: Invocation) -> int:
    """Open its gate. What the program's exec fails with is said here; the container is stopped then."""
    from sampan.runtime import gate

    record = invocation.store.find(invocation.id())
    lock = record.lock()
    try:
        status = record.status
        if status == "stopped":
            raise Conflict("cannot start a container that has stopped")
        if status == "paused":
            raise Conflict("cannot start a container in the paused state", f"sampan-runtime resume {record.id}")
        if status != "created":
            raise Conflict(f"cannot start an already {status} container")
        try:
            gate.open(f"/proc/self/fd/{lock}/{GATE}")
        finally:
            os.unlink(GATE, dir_fd=lock)
        if "poststart" in record.facts["hooks"]:
            poststart(record)
    finally:
        os.close(lock)
    return 0


def poststart(record: Record) -> None:
    """Run the hooks; one that fails ends the container, as the specification has it."""
    from sampan.oci.hooking import poststart as run
    from sampan.runtime import control

    try:
        run(record)
    except SampanError:
        control.kill_everyone(record.cgroups)
        raise
