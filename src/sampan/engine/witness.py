"""Seeing how containers end whose shim is killed while there is no keeper.

Their processes are then left to the machine's first one, which collects them and tells nobody. But the kernel keeps a
status for whoever has held the process by a pidfd (PIDFD_GET_INFO, Linux 6.15): from a keeper's death on the server
does. It costs nothing before; of an end together with keeper and shim, within a millisecond, nothing is known.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from sampan.kernel import process
from sampan.supervise.process import ended_by, exit_code

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.supervise.messages import Exited


def hold(core: Core) -> None:
    """Hold the first process of each container that runs, until its end."""
    for container in core.registry:
        with container.changed:
            if container.running and container.pidfd is None:
                container.pidfd = _open(container)


def _open(container: Container) -> int | None:
    try:
        pidfd = process.pidfd_open(container.state.pid)
    except OSError:
        return None
    try:
        if process.start_time(container.state.pid) == container.state.start_time:
            return pidfd
    except OSError:
        pass
    os.close(pidfd)
    return None


def testified(container: Container, exited: Exited) -> Exited:
    """Complete an end that nobody has seen by what the kernel has kept of it."""
    if exited.exit_code is not None:
        return exited
    with container.changed:
        status = process.pidfd_exit_status(container.pidfd) if container.pidfd is not None else None
    if status is None:
        return exited
    number, core_dumped = ended_by(status)
    return msgspec.structs.replace(exited, exit_code=exit_code(status), signal=number, core_dumped=core_dumped)


def let_go(container: Container) -> None:
    """Hold a container's process no longer."""
    with container.changed:
        pidfd, container.pidfd = container.pidfd, None
    if pidfd is not None:
        os.close(pidfd)
