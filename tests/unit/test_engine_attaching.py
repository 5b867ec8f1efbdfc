"""When a client that attaches may be told so."""

from __future__ import annotations

import threading

import pytest

from sampan.engine.attaching import AttachSession
from sampan.engine.core import Core
from sampan.engine.registry import Container
from sampan.engine.requests import AttachQuery
from sampan.spec.state import State, Status
from support.engine import completed


def could_start(container: Container) -> bool:
    """Tell whether another thread's `start` would get on now."""
    found: list[bool] = []

    def look() -> None:
        free = container.lock.acquire(blocking=False)
        if free:
            container.lock.release()
        found.append(free)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize(
    ("status", "logs", "free"),
    [
        (Status.CREATED, False, False),
        (Status.CREATED, True, False),
        (Status.EXITED, False, False),
        (Status.EXITED, True, True),
        (Status.RUNNING, False, True),
    ],
)
def test_output_right_behind_a_start_is_not_missed_by_who_attached_before_it(
    status: Status, logs: bool, free: bool
) -> None:
    container = Container("a", "a", 0, ("i", "i"), completed(), State(status=status))
    session = AttachSession(Core(), container, AttachQuery(stdout=True, stream=True, logs=logs))

    with session.answering():
        assert could_start(container) == free
    assert could_start(container)
