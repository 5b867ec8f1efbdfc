"""`wait`: blocking until a container ends, or is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine import sandbox
from sampan.errors import InvalidInput, NotFound
from sampan.spec.docker import ContainerWaitResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.engine.core import Core
    from sampan.engine.registry import Container


def wait(
    core: Core, ref: str, condition: str, begun: Callable[[Callable[[], None]], None] | None
) -> ContainerWaitResponse:
    """Return how a container ended, also one that has just removed itself (by its whole id)."""
    try:
        container = core.registry.find(ref)
    except NotFound:
        code = core.store.last_exit(ref)
        if code is None:
            raise
        return ContainerWaitResponse(status_code=code)
    return wait_for(container, condition, begun)


def wait_for(
    container: Container, condition: str, begun: Callable[[Callable[[], None]], None] | None
) -> ContainerWaitResponse:
    """Return how it ended. A container that never ran counts as not running, with code 0."""
    given_up = False

    def give_up() -> None:
        nonlocal given_up
        given_up = True
        container.wake()

    exits, rests = container.exits, container.rests
    done: Callable[[], bool]
    match condition:
        case "" | "not-running":
            # Also one that another client has started again before this thread could look.
            done = lambda: container.removed or not container.active or container.rests != rests
        case "next-exit":
            done = lambda: container.removed or container.exits != exits
        case "removed":
            done = lambda: container.removed
        case _:
            raise InvalidInput(f'invalid condition: "{condition}"', "not-running, next-exit or removed")
    if begun:
        begun(give_up)
    container.wait_until(lambda: given_up or done())
    if not given_up:
        sandbox.give_back(container)
    return ContainerWaitResponse(status_code=container.last_exit[0])
