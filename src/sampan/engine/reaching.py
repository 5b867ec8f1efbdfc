"""Reaching the shim of a running container, also over the death of one: its successor is waited for and asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sampan.engine import lifecycle
from sampan.errors import Failed, SampanError
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.engine.lifecycle import Verb
    from sampan.engine.links import Channel
    from sampan.engine.registry import Container

_M = TypeVar("_M", bound=messages.Message)

TRIES = 3
_ANSWER_S = 30
_SHIM_S = 10


def must_run(container: Container, verb: Verb) -> Channel:
    """Return the channel to the shim of a running container, or raise what the table says.

    A shim that was killed is being replaced: its successor is waited for.
    """
    lifecycle.check(verb, container.state, container.id)
    container.wait_until(lambda: _channel(container) is not None or not container.running, _SHIM_S)
    lifecycle.check(verb, container.state, container.id)
    channel = _channel(container)
    if channel is None:
        raise Failed(f"can't {verb} {container.name}: its shim was killed and no other has come", "try again later")
    return channel


def _channel(container: Container) -> Channel | None:
    channel = container.shim
    return None if channel is None or channel.failed else channel


def ask(
    container: Container,
    verb: Verb,
    message: messages.Message,
    kind: type[_M],
    *,
    fds: Sequence[int] = (),
    then: Callable[[messages.Message], None] | None = None,
    timeout_s: float = _ANSWER_S,
) -> _M:
    """Ask the shim of a running container what may be asked twice: one that is killed meanwhile has not answered."""
    for left in reversed(range(TRIES)):
        pending = must_run(container, verb).post(message, fds, then)
        try:
            return pending.wait(kind, timeout_s)
        except SampanError:
            if not pending.broken or not left:
                raise
    raise AssertionError
