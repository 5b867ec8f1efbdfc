"""`export`: all files of a container as a tar, running or not. Volumes and what else is mounted are not its own."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from sampan.engine.changing import WORK_S, check_there, rootfs_of
from sampan.errors import doing
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Generator

    from sampan.engine.core import Core
    from sampan.engine.registry import Container

_PIECE = 1 << 18


def export(core: Core, container: Container) -> Generator[bytes]:
    """Give the archive in pieces; it is whole if this ends without an error. A worker reads while they are sent."""
    rootfs = rootfs_of(core, container)
    with doing(f"can't export {container.name}"):
        yield from pieces(core, rootfs.layers)
        check_there(container)
    core.tell(container, "export")


def pieces(core: Core, layers: tuple[str, ...]) -> Generator[bytes]:
    """Give a tar of all files that these directories make, topmost first."""
    with closing(core.worker()) as channel:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with open(reading, "rb", buffering=0) as pipe:
            try:
                done = channel.post(messages.Export(layers=layers), (writing,))
            finally:
                os.close(writing)
            while piece := pipe.read(_PIECE):
                yield piece
            done.wait(messages.Done, WORK_S)
