"""`--timeout`: a container that may run for so long only is killed then, whoever serves it by that time."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.engine import stopping
from sampan.engine.core import now_ns
from sampan.errors import Conflict, InvalidInput
from sampan.spec.annotations import TIMEOUT
from sampan.spec.ending import Sender

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.docker import HostConfig


def timeout_s(host_config: HostConfig) -> int:
    """Return how long a container may run, 0 for as long as it likes. Raises InvalidInput."""
    text = (host_config.annotations or {}).get(TIMEOUT, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput(f"invalid timeout: {text!r}", "it is a number of seconds: --timeout 60")
    return int(text)


def begin(core: Core, container: Container) -> None:
    """See to the end of a container that runs, in time."""
    seconds, started = timeout_s(container.body.host_config), container.state.started_at_ns
    if not seconds:
        return

    def end() -> None:
        if container.running and container.state.started_at_ns == started:
            with suppress(Conflict):  # it has just ended by itself
                by, why = Sender(verb="timeout"), {"timeout": str(seconds)}
                stopping.send_signal(core, container, signal.SIGKILL, by, why=why)

    left_s = seconds - (now_ns() - started) / 1e9
    core.janitor.later(f"end {container.name}, which has run for {seconds} s", end, max(0, left_s))
