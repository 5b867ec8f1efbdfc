"""What progress shows: totals, speeds, times."""

import pytest

from sampan.cli.progress import Total, remaining


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_total_has_a_speed_and_a_time_that_is_left(clock):
    total = Total(clock)
    total.expect("a", 10_000_000)
    total.expect("b", 10_000_000)
    total.move("a", 0, 10_000_000)
    clock.now += 2
    total.move("a", 4_000_000, 10_000_000)

    assert total.line() == "Total: 4MB/20MB  2MB/s, 8 s left"


def test_what_had_come_before_counts_for_the_total_and_not_for_the_speed(clock):
    total = Total(clock)
    total.move("a", 50_000_000, 100_000_000)
    clock.now += 1
    total.move("a", 60_000_000, 100_000_000)

    assert total.line() == "Total: 60MB/100MB  10MB/s, 4 s left"


def test_the_speed_is_that_of_the_last_seconds(clock):
    total = Total(clock)
    total.move("a", 0, 1_000_000_000)
    clock.now += 100
    total.move("a", 100_000_000, 1_000_000_000)
    clock.now += 1
    total.move("a", 101_000_000, 1_000_000_000)

    assert total.line().endswith("1MB/s, 14 min 59 s left")
    clock.now += 10
    assert total.line() == "Total: 101MB/1GB"


def test_nothing_is_said_before_something_moves_and_when_all_has(clock):
    total = Total(clock)
    total.expect("a", 100)

    assert total.line() == ""
    total.move("a", 50, 100)
    total.complete("a")
    assert total.line() == ""


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7800, "2 h 10 min")],
)
def test_times_that_are_left(seconds, shown):
    assert remaining(seconds) == shown
