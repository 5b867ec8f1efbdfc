"""Getting back to the shims: at the server's start, and when a shim was killed and another goes on in its place."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from sampan.engine import execs, launch, naming, ports
from sampan.engine.core import now_ns
from sampan.engine.stopping import thaw_soon
from sampan.errors import SampanError
from sampan.spec.state import Status
from sampan.supervise import messages, state as shim_state

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container

_ANSWER_S = 10
_PATIENCE_S = 5
_STEP_S = 0.05
_UNKNOWN = "how it ended is not known: its shim and the keeper were both killed"


def connect(core: Core, container: Container) -> None:
    """Connect to a container's shim and take in what it knows. Not there: try again behind, for a while."""
    if not try_connect(core, container):
        reconnect_soon(core, container)


def reconnect_soon(core: Core, container: Container) -> None:
    """Start a thread that waits for the shim's successor."""
    threading.Thread(target=_reconnect, args=(core, container), name="reconnect", daemon=True).start()


def try_connect(core: Core, container: Container) -> bool:
    """Connect once; False when nobody listens or answers."""
    path = f"{core.dirs.shim(container.id)}/{shim_state.SOCKET}"
    try:
        channel = core.links.connect(path, f"the shim of {container.name}")
    except OSError:
        return False
    launch.listen(core, container, channel)
    container.shim = channel
    try:
        status = channel.ask(messages.Hello(), messages.Status, timeout_s=_ANSWER_S)
    except SampanError:
        container.shim = None
        channel.on_gone = None
        channel.close()
        return False
    _learn(core, container, status)
    container.wake()
    return True


def _learn(core: Core, container: Container, status: messages.Status) -> None:
    execs.learn(core, container, status)
    if status.exited is not None:
        launch.exited(core, container, status.exited)
    elif status.phase == "empty" and container.running:
        launch.exited(core, container, messages.Exited(exit_code=None, finished_at_ns=now_ns()))
    elif status.phase == "created" and container.shim is not None:
        # Made and never let go: the server that was to do it has died.
        container.shim.post(messages.Signal(number=9))
    elif status.phase in ("running", "paused") and container.running:
        paused = status.phase == "paused"
        if paused != (container.state.status is Status.PAUSED):  # done by a shim that was killed before it could answer
            core.tell(container, "pause" if paused else "unpause")
        container.update(
            status=Status.PAUSED if paused else Status.RUNNING,
            pid=status.pid or 0,
            start_time=status.start_time or 0,
            started_at_ns=status.started_at_ns or container.state.started_at_ns,
        )
        naming.learn(core, container, status)
        ports.remind(container)
        if container.state.thaw and not container.committing:
            thaw_soon(core, container)


def _reconnect(core: Core, container: Container) -> None:
    """Wait for a shim; when none comes, believe the kernel: what is gone has ended, with a status nobody saw."""
    end = time.monotonic() + _PATIENCE_S
    while not core.closing and not container.removed and container.running:
        if try_connect(core, container):
            return
        if time.monotonic() > end and not _alive(container):
            state = shim_state.read(core.dirs.shim(container.id))
            seen = state.exited if state else None
            launch.exited(core, container, seen or messages.Exited(exit_code=None, finished_at_ns=now_ns()))
            return
        time.sleep(_STEP_S)


def _alive(container: Container) -> bool:
    from sampan.kernel import process

    state = container.state
    try:
        return bool(state.pid) and process.start_time(state.pid) == state.start_time
    except OSError:
        return False
