"""Starting ended containers again as their policies say, and what calls that off."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from sampan.engine import launch
from sampan.engine.restart_policy import delay_s
from sampan.errors import SampanError
from sampan.spec.state import Status

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container

_AT_ONCE = threading.Semaphore(8)
"""A machine that boots has its containers started a few at a time."""


def after(core: Core, container: Container) -> None:
    """Start a container that has ended, and is in state `restarting`, again when it is time."""
    state = container.state
    container.restart_delay_s = delay_s(container.restart_delay_s, state.finished_at_ns - state.started_at_ns)
    _later(core, container, container.restart_delay_s)


def resume(core: Core, container: Container) -> None:
    """Start one again that a server before this one, or the machine, has left."""
    container.update(status=Status.RESTARTING)
    _later(core, container, 0)


def _later(core: Core, container: Container, wait_s: float) -> None:
    timer = threading.Timer(wait_s, _again, (core, container))
    timer.daemon = True
    container.restart = timer
    timer.start()


def at_once(core: Core, container: Container) -> None:
    """Start one that waits for its restart now."""
    if container.state.status is Status.RESTARTING:
        _again(core, container)


def _again(core: Core, container: Container) -> None:
    if container.state.status is not Status.RESTARTING:  # what it requires stays as it is, too
        return
    unmet = _unmet(core, container)
    with container.lock, _AT_ONCE:
        if core.closing or container.removed or container.state.status is not Status.RESTARTING:
            return
        _take_timer(container)
        if unmet:
            launch.note_failure(core, container, container.state, unmet)
            _complain(container, unmet)
            return
        started = launch.Start(core, container)
        try:
            started.wait()
        except SampanError as e:
            started.undo(e)
            _complain(container, e)


def _unmet(core: Core, container: Container) -> SampanError | None:
    """Start what a container requires; return what was in the way of that."""
    try:
        launch.start_required(core, container)
    except SampanError as e:
        return e
    return None


def _complain(container: Container, error: SampanError) -> None:
    print(f"sampan: can't restart {container.name}: {error.message}", file=sys.stderr, flush=True)


def call_off(core: Core, container: Container) -> bool:
    """Have a container that waits for its restart stay as it is; False where it does not wait."""
    with container.lock:
        if container.state.status is not Status.RESTARTING:
            return False
        _take_timer(container)
        container.update(status=Status.EXITED, stopped_by_user=True)
        core.save(container)
        return True


def _take_timer(container: Container) -> None:
    timer, container.restart = container.restart, None
    if timer:
        timer.cancel()
