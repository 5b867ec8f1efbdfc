"""COPY, ADD and WORKDIR for a worker: which trees they read, and the jobs that select and lay files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.build import jobs
from sampan.spec.build import Add, Copy, Remote, Workdir
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.spec.build import Origin

    Places = Callable[[Origin], jobs.Place]
    Fetch = Callable[[Remote, Add], jobs.Item]


def items(op: Copy | Add, places: Places, fetch: Fetch) -> tuple[jobs.Item, ...]:
    """Return what a step takes, in its order."""
    found = _copied(op, places) if isinstance(op, Copy) else _added(op, places, fetch)
    return (*found, *(jobs.Item(file=(file.name, file.text.encode())) for file in op.inline))


def _copied(op: Copy, places: Places) -> Iterator[jobs.Item]:
    if op.sources:
        yield jobs.Item(place=places(op.origin), sources=op.sources, parents=op.parents, exclude=op.exclude)


def _added(op: Add, places: Places, fetch: Fetch) -> Iterator[jobs.Item]:
    for source in op.sources:
        if isinstance(source, Remote):
            yield fetch(source, op)
        else:
            unpack = op.unpack is not False
            yield jobs.Item(place=places(op.origin), sources=(source,), unpack=unpack, exclude=op.exclude)


def laying(op: Copy | Add | Workdir, taken: tuple[jobs.Item, ...]) -> jobs.Lay:
    """Return the job that writes a step's layer, to be completed by `lay_files`."""
    if isinstance(op, Workdir):
        return jobs.Lay(target="", items=(), destination=f"{op.path}/", verb="WORKDIR", owner=op.user, time_ns=0)
    return jobs.Lay(
        target="",
        items=taken,
        destination=op.destination,
        verb="COPY" if isinstance(op, Copy) else "ADD",
        owner=op.owner,
        mode=op.mode,
        link=op.link,
        time_ns=0,
    )


def lay_files(lay: jobs.Lay, target: str) -> messages.LayFiles:
    """Return the message of a job that makes the directory `target`."""
    return messages.LayFiles(job=msgspec.json.encode(msgspec.structs.replace(lay, target=target)))
