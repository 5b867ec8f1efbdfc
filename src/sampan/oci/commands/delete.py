"""`delete ID`: remove what is left of a container."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C module alone: `signal` imports enum
import os

from sampan.errors import Conflict, Failed, NotFound, SampanError
from sampan.oci.log import warn
from sampan.oci.options import Option
from sampan.oci.store import Record, frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation
    from sampan.oci.store import Store

USAGE = "[OPTIONS] ID"
OPTIONS = (
    Option("force f", "kill it if it runs; one that does not exist is no error", "flag"),
    Option("regex r", "ID is a regular expression: delete all containers that it matches", "flag"),
)
_ENDED_WITHIN_MS = 10_000


def perform(invocation: Invocation) -> int:
    """Remove the container."""
    force = invocation.given.flag("force")
    store, id, regex = invocation.store, invocation.id(), invocation.given.flag("regex")
    try:
        found = store.matching(id, regex=regex)
    except (NotFound, Failed):
        if regex or not force:
            raise
        found = _unfinished(store, id)
    for record in found:
        try:
            warnings = delete(record, force=force)
        except NotFound:  # another command has deleted it meanwhile
            if not force:
                raise
            continue
        for failed in warnings:
            warn(failed.message, invocation.options)
    return 0


def _unfinished(store: Store, id: str) -> list[Record]:
    """Remove what a killed `create` has left, if anything; return the container where its `create` is at work yet."""
    try:
        lock = Record(store, {"id": id}).lock_new()
    except NotFound:
        return []
    try:
        return [store.find(id)]
    except (NotFound, Failed):
        store.forget(id)
        return []
    finally:
        os.close(lock)


def delete(record: Record, *, force: bool) -> list[SampanError]:
    """Remove one container, which has stopped or was only created, or with `force` any; return what hooks failed."""
    from sampan.runtime import control

    lock = record.lock()
    try:
        status = record.status
        if status not in ("stopped", "created") and not force:
            raise Conflict(
                f"cannot delete container {record.id} that is not stopped: {status}",
                f"sampan-runtime kill {record.id} KILL, or delete --force",
            )
        if status != "stopped":
            _end(record)
        control.remove(record.cgroups)
        failed = []
        if "poststop" in record.facts["hooks"]:
            from sampan.oci.hooking import poststop

            failed = poststop(record)
        record.store.forget(record.id)
    finally:
        os.close(lock)
    return failed


def _end(record: Record) -> None:
    """Kill its first process, with which its pid namespace ends, and wait until it has."""
    import select

    from sampan.runtime import control

    try:
        pidfd = record.pidfd()
    except Conflict:  # it has ended meanwhile, or there never was one
        return
    try:
        _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        if frozen(record.cgroups):
            control.freeze(record.cgroups, frozen=False)  # v1: what is frozen does not die
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        if not ended.poll(_ENDED_WITHIN_MS):
            raise Failed(f"can't delete container {record.id}: its process {record.pid} does not end")
    finally:
        os.close(pidfd)
