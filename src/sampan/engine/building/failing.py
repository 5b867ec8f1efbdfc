"""A step that fails: what is told of it, and the container of its files that stays with `--on-failure`."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from sampan.engine import creating
from sampan.engine.building.results import document
from sampan.errors import SampanError
from sampan.image import platforms
from sampan.kernel.trees import remove_tree
from sampan.spec.build import Run, StepFailed
from sampan.spec.docker import ContainerCreate, HostConfig

if TYPE_CHECKING:
    from sampan.build.dockerfile.ast import Dockerfile
    from sampan.engine.building.stages import At
    from sampan.engine.core import Core
    from sampan.spec.build import Location, Step
    from sampan.spec.image import Rootfs

_LINES_AROUND = 3
_LAST_BYTES = 16 << 10


class StepError(SampanError):
    """A step failed: what a client is told of it is in `event`."""

    def __init__(self, event: StepFailed) -> None:
        super().__init__(f"can't build: {event.message}", event.hint)
        self.event = event


class Tail:
    """The end of what a step has written."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Take in more."""
        self._pieces.append(data)
        self._size += len(data)
        while self._size - len(self._pieces[0]) >= _LAST_BYTES:
            self._size -= len(self._pieces.popleft())

    def text(self) -> bytes:
        """Return it."""
        return b"".join(self._pieces)[-_LAST_BYTES:]


def failed(number: int, text: str, location: Location, dockerfile: Dockerfile, error: SampanError) -> StepFailed:
    """Return what is told of a step that could not be done."""
    first, lines = excerpt(dockerfile.source, location.line, location.end_line)
    return StepFailed(
        step=number,
        text=text,
        message=error.message,
        hint=error.hint,
        location=location,
        excerpt=lines,
        excerpt_line=first,
    )


def excerpt(source: str, line: int, end_line: int) -> tuple[int, tuple[str, ...]]:
    """Return some lines around those of an instruction, and the number of the first."""
    lines = source.splitlines()
    first = max(1, line - _LINES_AROUND)
    return first, tuple(lines[first - 1 : end_line + _LINES_AROUND])


def keep(core: Core, at: At, step: Step, rootfs: Rootfs, hostname: str) -> str:
    """Make a container of what a failed RUN has left, over an image of the steps before it; return its id.

    Its command is the shell with the step's environment, user and directory. What the RUN had mounted it has not.
    """
    run = step.op
    assert isinstance(run, Run)
    image = core.images.add(document(at, platforms.own(), None))
    body = ContainerCreate(
        image=image.id,
        hostname="" if run.network == "host" else hostname,
        entrypoint=("",),
        cmd=run.argv[:1],
        env=run.env,
        user=run.user,
        working_dir=run.workdir,
        tty=True,
        open_stdin=True,
        stdin_once=True,
        attach_stdin=True,
        attach_stdout=True,
        attach_stderr=True,
        labels={"org.sampan.build.failed": step.text[:1000]},
        host_config=HostConfig(network_mode=run.network, privileged=run.security == "insecure"),
    )
    container = core.registry.find(creating.create(core, None, body, None).id)
    upper = os.path.realpath(f"{core.dirs.container(container.id)}/upper")
    with container.lock:
        remove_tree(upper)
        os.rename(os.path.realpath(rootfs.upperdir), upper)
    return container.id
