"""Who makes a step that several want."""

from __future__ import annotations

import threading

import pytest

from sampan.engine.building.turns import Turns


def test_the_second_with_a_key_waits_for_the_first_and_nobody_for_another_key() -> None:
    turns, order = Turns(), []
    waiting = threading.Event()

    def second() -> None:
        with turns.of("key", waiting.set):
            order.append("second")

    with turns.of("key", lambda: None), turns.of("other", lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join()

    assert order == ["first", "second"]
    assert not turns._known


def test_who_waits_may_give_up() -> None:
    turns = Turns()

    def check() -> None:
        raise InterruptedError

    with turns.of("key", lambda: None):
        with pytest.raises(InterruptedError), turns.of("key", check):
            pass
        assert list(turns._known) == ["key"]
    assert not turns._known
