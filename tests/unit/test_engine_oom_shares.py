"""Whose the victims are whose group the kernel did not name."""

from __future__ import annotations

from sampan.engine.oom_shares import Shares


def test_the_only_one_that_has_counted_more_is_the_owner() -> None:
    shares = Shares({"old": 5})
    shares.named("new")

    assert shares.owner({"old": 5, "new": 3}, 2) == "new"
    assert shares.owner({"old": 5, "new": 3}, 1) is None
    assert shares.owner({"old": 6, "new": 3}, 1) == "old"


def test_what_is_read_before_the_counts_have_come_to_the_end_leaves_the_rest_for_later() -> None:
    shares = Shares({})

    assert shares.owner({"web": 3}, 1) == "web"
    assert shares.owner({"web": 3}, 2) == "web"
    assert shares.owner({"web": 3}, 1) is None


def test_two_that_have_counted_more_own_none_of_them_nor_later_ones() -> None:
    shares = Shares({})

    assert shares.owner({"web": 1, "db": 1}, 2) is None
    assert shares.owner({"web": 1, "db": 1}, 1) is None
    assert shares.owner({"web": 2, "db": 1}, 1) == "web"


def test_more_victims_than_were_counted_are_partly_somebody_elses() -> None:
    shares = Shares({})

    assert shares.owner({"web": 1}, 2) is None
    assert shares.owner({"web": 1}, 1) is None


def test_the_next_run_of_one_begins_at_none() -> None:
    shares = Shares({})
    assert shares.owner({"web": 3}, 3) == "web"

    shares.end("web")

    assert shares.owner({"web": 1}, 1) == "web"
