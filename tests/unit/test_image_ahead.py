"""Pieces that a thread makes ahead."""

import itertools
import threading

import pytest

from sampan.image.ahead import ahead


def test_pieces_come_in_order_and_none_is_lost():
    pieces = [b"%d" % number for number in range(1000)]

    with ahead(iter(pieces), 3) as given:
        assert list(given) == pieces


def test_what_fails_in_the_pieces_is_raised_after_those_before_it():
    def pieces():
        yield b"good"
        raise ValueError("broken")

    with ahead(pieces(), 3) as given:
        assert next(given) == b"good"
        with pytest.raises(ValueError, match="broken"):
            next(given)


def test_no_more_are_made_than_may_wait():
    count = itertools.count(1)
    made = []
    enough = threading.Event()

    def pieces():
        for number in count:
            made.append(number)
            if number == 4:
                enough.set()
            yield b"piece"

    with ahead(pieces(), 3) as given:
        next(given)
        enough.wait(10)

    assert len(made) <= 5


def test_who_takes_no_more_ends_the_thread():
    before = set(threading.enumerate())
    with ahead(itertools.repeat(b"piece"), 3) as given:
        next(given)

    assert set(threading.enumerate()) <= before
