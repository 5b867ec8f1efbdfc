"""`pause ID`."""

from __future__ import annotations

import os

from sampan.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation

USAGE = "ID"
OPTIONS = ()


def perform(invocation: Invocation) -> int:
    """Freeze all processes of a running container."""
    return change(invocation, ("running", "created"), frozen=True)


def change(invocation: Invocation, wanted: tuple[str, ...], *, frozen: bool) -> int:
    """Freeze a container that is in a state of `wanted`, or let it go on."""
    from sampan.runtime import control

    record = invocation.store.find(invocation.id())
    lock = record.lock()
    try:
        if (status := record.status) not in wanted:
            raise Conflict(f"container {record.id} is not {wanted[0]}: {status}")
        control.freeze(record.cgroups, frozen)
    finally:
        os.close(lock)
    return 0
