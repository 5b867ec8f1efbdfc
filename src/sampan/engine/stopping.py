"""Signals, stopping, pausing, terminals: what is done to a running container."""

from __future__ import annotations

import signal as signals
from typing import TYPE_CHECKING

from sampan.engine import lifecycle
from sampan.engine.launch import must_run, start
from sampan.engine.lifecycle import Verb
from sampan.errors import Conflict, Failed, SampanError
from sampan.spec.state import Status
from sampan.supervise import messages
from sampan.units import parse_signal

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container

_STOP_TIMEOUT_S = 10
_KILL_TIMEOUT_S = 10
_ANSWER_S = 30


def kill(core: Core, container: Container, signal: str | None) -> None:
    """Send a signal, SIGKILL if none is named. Whoever waits for the end waits elsewhere."""
    number = parse_signal(signal) if signal else signals.SIGKILL
    try:
        send_signal(container, number)
    except Conflict as e:
        raise Conflict(f"cannot kill container: {container.name}: {e.message}", e.hint) from None
    core.tell(container, "kill", {"signal": str(int(number))})
    if number == signals.SIGKILL:
        wait_ended(container, _KILL_TIMEOUT_S)


def send_signal(container: Container, number: int) -> None:
    """Send a signal to the first process; a paused container is thawed for SIGKILL, which it could not take."""
    channel = must_run(container, Verb.KILL)
    paused = container.state.status is Status.PAUSED
    try:
        channel.ask(messages.Signal(number=number), messages.Done, timeout_s=_ANSWER_S)
    except Failed:
        if not channel.gone:
            raise
        channel = must_run(container, Verb.KILL)  # it was killed at this very moment: ask its successor
        channel.ask(messages.Signal(number=number), messages.Done, timeout_s=_ANSWER_S)
    if paused and number == signals.SIGKILL:
        thaw = channel.post(messages.Freeze(frozen=False), then=lambda answer: _thawed(container, answer))
        thaw.wait_quietly(_ANSWER_S)


def _thawed(container: Container, answer: messages.Message) -> None:
    if isinstance(answer, messages.Done) and container.state.status is Status.PAUSED:
        container.update(status=Status.RUNNING)


def stop(core: Core, container: Container, timeout_s: int | None, signal: str | None) -> bool:
    """Send the stop signal, wait, and kill what is left; False when it was not running."""
    if lifecycle.check(Verb.STOP, container.state, container.id) is lifecycle.ALREADY:
        return False
    body = container.body
    number = parse_signal(signal or body.stop_signal or "TERM")
    if timeout_s is None:
        timeout_s = body.stop_timeout if body.stop_timeout is not None else _STOP_TIMEOUT_S
    container.update(stopped_by_user=True)
    _signal_if_running(core, container, number)
    if container.state.status is Status.PAUSED:
        unpause(core, container)
    if not wait_ended(container, None if timeout_s < 0 else timeout_s):
        _signal_if_running(core, container, signals.SIGKILL)
        if not wait_ended(container, _KILL_TIMEOUT_S):
            raise Failed(
                f"cannot stop container: {container.name}: it has not ended {_KILL_TIMEOUT_S} seconds after SIGKILL",
                "a process of it may hang in the kernel: look for state D in `sampan top`",
            )
    core.tell(container, "stop")
    return True


def _signal_if_running(core: Core, container: Container, number: int) -> None:
    try:
        send_signal(container, number)
    except Conflict:  # it ended by itself meanwhile
        return
    core.tell(container, "kill", {"signal": str(number)})


def wait_ended(container: Container, timeout_s: float | None) -> bool:
    """Wait until its processes are gone."""
    return container.wait_until(lambda: container.removed or not container.running, timeout_s)


def restart(core: Core, container: Container, timeout_s: int | None, signal: str | None) -> None:
    """Stop it if it runs, start it."""
    lifecycle.check(Verb.RESTART, container.state, container.id)
    stop(core, container, timeout_s, signal)
    start(core, container)
    core.tell(container, "restart")


def pause(core: Core, container: Container) -> None:
    """Freeze every process of it."""
    with container.lock:
        channel = must_run(container, Verb.PAUSE)

        def frozen(answer: messages.Message) -> None:
            if isinstance(answer, messages.Done) and container.running:
                container.update(status=Status.PAUSED)

        try:
            channel.post(messages.Freeze(frozen=True), then=frozen).wait(messages.Done, _ANSWER_S)
        except SampanError as e:
            raise e.within(f"cannot pause container {container.id}") from e
        core.save(container)
        core.tell(container, "pause")


def unpause(core: Core, container: Container) -> None:
    """Let it run again."""
    with container.lock:
        channel = must_run(container, Verb.UNPAUSE)
        thaw = channel.post(messages.Freeze(frozen=False), then=lambda answer: _thawed(container, answer))
        thaw.wait(messages.Done, _ANSWER_S)
        core.save(container)
        core.tell(container, "unpause")


def resize(core: Core, container: Container, rows: int, columns: int) -> None:
    """Set the terminal's size."""
    channel = must_run(container, Verb.RESIZE)
    channel.ask(messages.Resize(rows=rows, columns=columns), messages.Done, timeout_s=_ANSWER_S)
    core.tell(container, "resize", {"height": str(rows), "width": str(columns)})
