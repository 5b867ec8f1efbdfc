"""Signals, stopping, pausing, terminals: what is done to a running container."""

from __future__ import annotations

import signal as signals
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from sampan.engine import lifecycle, restarting, sandbox
from sampan.engine.launch import start
from sampan.engine.lifecycle import Verb
from sampan.engine.reaching import ask, must_run
from sampan.errors import Conflict, Failed, SampanError
from sampan.spec.state import Status
from sampan.supervise import messages
from sampan.units import parse_signal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.ending import Sender

_STOP_TIMEOUT_S = 10
_KILL_TIMEOUT_S = 10
_ANSWER_S = 30


def kill(core: Core, container: Container, signal: str | None, by: Sender | None = None) -> None:
    """Send a signal, SIGKILL if none is named. Whoever waits for the end waits elsewhere. `by`: who wants it."""
    number = parse_signal(signal) if signal else signals.SIGKILL
    ends = number in (signals.SIGKILL, parse_signal(container.body.stop_signal or "TERM"))
    run = container.exits
    if ends and restarting.call_off(core, container):
        core.tell(container, "kill", {"signal": str(int(number))})
        return
    if ends:
        _call_off_own_restart(core, container)
    if ends and container.running:
        _note_stop(core, container)
    send_signal(core, container, number, by)
    if number == signals.SIGKILL and wait_ended(container, run, _KILL_TIMEOUT_S):
        restarting.call_off(core, container)  # it may have ended by itself before the wish was noted


def send_signal(
    core: Core,
    container: Container,
    number: int,
    by: Sender | None = None,
    *,
    timeout_s: float = _ANSWER_S,
    why: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Send a signal to the first process; a paused container is thawed for SIGKILL, which it could not take.

    The event, with `why` among its attributes, is told before that of an end which the signal causes.
    """

    def tell() -> None:
        core.tell(container, "kill", {"signal": str(int(number)), **why})

    def done(answer: messages.Message) -> None:
        if isinstance(answer, messages.Done):
            tell()

    message, run = messages.Signal(number=number, sender=by), container.exits
    try:
        ask(container, Verb.KILL, message, messages.Done, then=done, timeout_s=timeout_s)
    except Conflict:
        if container.exits == run or not _was_sent(container, number, by):
            raise
        tell()
    if number == signals.SIGKILL and container.state.status is Status.PAUSED:
        with suppress(SampanError):  # it may have ended meanwhile
            _freeze(core, container, Verb.KILL, frozen=False, timeout_s=timeout_s)


def _was_sent(container: Container, number: int, by: Sender | None) -> bool:
    """Tell whether a container has ended behind this very signal, of which a killed shim could not answer any more."""
    ending = container.state.ending
    return by is not None and ending is not None and any(s.number == number and s.sender == by for s in ending.sent)


def _freeze(core: Core, container: Container, verb: Verb, *, frozen: bool, timeout_s: float = _ANSWER_S) -> None:
    """Have it frozen or thawed, noted so and told before any event behind the answer, such as its end."""
    before, after = (Status.RUNNING, Status.PAUSED) if frozen else (Status.PAUSED, Status.RUNNING)

    def done(answer: messages.Message) -> None:
        if isinstance(answer, messages.Done) and container.state.status is before:
            container.update(status=after)
            core.tell(container, "pause" if frozen else "unpause")

    was = container.state.status
    try:
        ask(container, verb, messages.Freeze(frozen=frozen), messages.Done, then=done, timeout_s=timeout_s)
    except Conflict:
        if was is after or container.state.status is not after:  # else a killed shim, or a kill, had done it
            raise


def stop(core: Core, container: Container, timeout_s: int | None, signal: str | None, by: Sender | None = None) -> bool:
    """Send the stop signal, wait, and kill what is left; False when it was not running."""
    _call_off_own_restart(core, container)
    return _stop(core, container, timeout_s, signal, by)


def _call_off_own_restart(core: Core, container: Container) -> None:
    """Have a restart that nobody has asked for, a health check's, leave it stopped."""
    if container.state.again:
        with container.lock:  # its start has this until it runs
            container.update(again=False)
            core.save(container)


def _stop(core: Core, container: Container, timeout_s: int | None, signal: str | None, by: Sender | None) -> bool:
    if lifecycle.check(Verb.STOP, container.state, container.id) is lifecycle.ALREADY:
        return False
    if restarting.call_off(core, container):
        core.tell(container, "stop")
        return True
    body = container.body
    number = parse_signal(signal or body.stop_signal or "TERM")
    if timeout_s is None:
        timeout_s = body.stop_timeout if body.stop_timeout is not None else _STOP_TIMEOUT_S
    run = container.exits
    _note_stop(core, container)
    _signal_if_running(core, container, number, by)
    with container.lock:  # a commit has it frozen no longer than it holds this
        if container.state.status is Status.PAUSED:
            unpause(core, container)
    if not wait_ended(container, run, None if timeout_s < 0 else timeout_s):
        _signal_if_running(core, container, signals.SIGKILL, by)
        if not wait_ended(container, run, _KILL_TIMEOUT_S):
            raise Failed(
                f"cannot stop container: {container.name}: it has not ended {_KILL_TIMEOUT_S} seconds after SIGKILL",
                "a process of it may hang in the kernel: look for state D in `sampan top`",
            )
    restarting.call_off(core, container)  # it may have ended by itself before the wish was noted
    core.tell(container, "stop")
    return True


def _note_stop(core: Core, container: Container) -> None:
    """Note that its end is somebody's wish: where it would be started again, on the disk, for a next server."""
    container.update(stopped_by_user=True)
    if container.body.host_config.restart_policy.name not in ("", "no"):
        core.save(container)


def _signal_if_running(core: Core, container: Container, number: int, by: Sender | None) -> None:
    with suppress(Conflict):  # it ended by itself meanwhile
        send_signal(core, container, number, by)


def wait_ended(container: Container, run: int, timeout_s: float | None) -> bool:
    """Wait until its processes are gone; `run` is how often it had ended: another client may have started it again."""
    over = lambda: container.removed or not container.running or container.exits != run
    ended = container.wait_until(over, timeout_s)
    if ended:
        sandbox.give_back(container)
    return ended


def restart(
    core: Core,
    container: Container,
    timeout_s: int | None,
    signal: str | None,
    by: Sender | None = None,
    *,
    own: bool = False,
) -> None:
    """Stop it if it runs, start it; an `own` one, for which its state says `again`, not if that is called off."""
    lifecycle.check(Verb.RESTART, container.state, container.id)
    with container.restarted():
        _stop(core, container, timeout_s, signal, by)
        with container.lock:
            if own and not container.state.again:
                return
            try:
                start(core, container)
            except SampanError as e:
                raise e.within(f"Cannot restart container {container.name}") from e
    core.tell(container, "restart")


def pause(core: Core, container: Container) -> None:
    """Freeze every process of it."""
    with container.lock:
        must_run(container, Verb.PAUSE)
        try:
            _freeze(core, container, Verb.PAUSE, frozen=True)
        except SampanError as e:
            raise e.within(f"cannot pause container {container.id}") from e
        core.save(container)


def unpause(core: Core, container: Container) -> None:
    """Let it run again."""
    with container.lock:
        _freeze(core, container, Verb.UNPAUSE, frozen=False)
        core.save(container)


@contextmanager
def still(core: Core, container: Container) -> Iterator[None]:
    """Freeze every process in the block, with the container's lock held, if they run and are not frozen already.

    That it is to be undone is on the disk before: should this server be killed, the next one does it.
    """
    if container.state.status is not Status.RUNNING:
        yield
        return
    container.update(thaw=True)
    core.save(container)
    try:
        with suppress(Conflict):  # it has just ended
            pause(core, container)
        yield
    finally:
        container.update(thaw=False)
        try:
            unpause(core, container)
        except Conflict:  # ended meanwhile, or killed, which thaws it
            core.save(container)


def thaw_soon(core: Core, container: Container) -> None:
    """Undo, behind what is done now, what `still` of a server has done that was killed."""

    def thaw() -> None:
        with container.lock:
            container.update(thaw=False)
            if container.state.status is Status.PAUSED:
                unpause(core, container)
            else:
                core.save(container)

    core.janitor.later(f"let {container.name} go on", thaw)


def thaw_all(core: Core) -> None:
    """Let go on what this server has frozen for a commit: it ends, and the next one may be long in coming."""
    for container in core.registry:
        if container.state.thaw and container.shim is not None:
            container.shim.post(messages.Freeze(frozen=False)).wait_quietly(_ANSWER_S)


def resize(core: Core, container: Container, rows: int, columns: int) -> None:
    """Set the terminal's size."""
    ask(container, Verb.RESIZE, messages.Resize(rows=rows, columns=columns), messages.Done)
    core.tell(container, "resize", {"height": str(rows), "width": str(columns)})
