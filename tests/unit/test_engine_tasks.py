"""Long work in a thread of its own, and what is heard of it."""

import threading

import pytest

from sampan.engine.tasks import Task
from sampan.errors import Failed
from sampan.spec.distribution import Progress


def number(id, current):
    return Progress(status="Downloading", id=id, current=current, total=100)


def test_events_come_in_order_and_of_numbers_the_latest():
    def work(report):
        report(Progress(status="begin"))
        for current in range(1000):
            report(number("a", current))
            report(number("b", current))
        waited.wait()

    waited = threading.Event()
    heard = []
    for event in Task(work, lambda: None):
        heard.append(event)
        if event.current == 999 and event.id == "b":
            waited.set()

    assert heard[0].status == "begin"
    assert len(heard) < 100
    assert [event.current for event in heard if event.id == "a"][-1] == 999


def test_the_first_number_is_told_and_none_after_what_followed_it():
    def work(report):
        report(number("a", 1))
        report(Progress(status="done", id="a"))

    assert [event.status for event in Task(work, lambda: None)] == ["Downloading", "done"]


def test_what_the_work_fails_with_is_raised_at_the_end():
    def work(report):
        report(Progress(status="begin"))
        raise Failed("no")

    heard = iter(Task(work, lambda: None))
    assert next(heard).status == "begin"
    with pytest.raises(Failed, match="no"):
        next(heard)


def test_closing_stops_the_work():
    stopped = threading.Event()
    task = Task(lambda _: stopped.wait(), stopped.set)

    task.close()
    assert list(task) == []
