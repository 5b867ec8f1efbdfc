"""What is remembered of a container's processor time between two questions."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sampan.engine.janitor import Janitor
from sampan.engine.last_readings import LastReadings, Reading
from sampan.spec.docker.stats import CpuStats
from support.sampan import wait_until


@pytest.fixture
def janitor() -> Iterator[Janitor]:
    one = Janitor()
    yield one
    one.close()


def reading(begun_ns: int, ago_s: float = 0) -> Reading:
    return Reading(begun_ns, time.monotonic() - ago_s, "2026-01-01T00:00:00Z", CpuStats())


def test_the_last_reading_is_given_of_the_same_run_only(janitor: Janitor) -> None:
    readings = LastReadings(janitor)
    first, second = reading(1), reading(2)

    readings.note("web", first)
    assert readings.of("web", 1) == first
    readings.note("web", second)
    assert readings.of("web", 2) == second
    assert readings.of("web", 1) is None
    assert readings.of("other", 2) is None


def test_an_old_reading_is_not_given(janitor: Janitor) -> None:
    readings = LastReadings(janitor)
    readings.note("web", reading(1, ago_s=61))

    assert readings.of("web", 1) is None


def test_readings_are_forgotten_when_nobody_asks_again(janitor: Janitor) -> None:
    readings = LastReadings(janitor, kept_s=0.01)

    for name in ("web", "db", "web"):
        readings.note(name, reading(1))
        wait_until(lambda: not len(readings))
