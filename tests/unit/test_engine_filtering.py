"""Filters as Docker reads them."""

import time

import pytest

from sampan.engine.filtering import check, duration_ns, labels_pass, truth, until_ns
from sampan.errors import InvalidInput


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({}, True),
        ({"label": ("a",)}, True),
        ({"label": ("a=1", "b")}, True),
        ({"label": ("a=2",)}, False),
        ({"label": ("a", "c")}, False),
        ({"label!": ("a",)}, False),
        ({"label!": ("a=2",)}, True),
        ({"label!": ("a", "c")}, True),
        ({"label": ("a",), "label!": ("b",)}, False),
    ],
)
def test_labels_must_all_be_there_and_the_excluded_not_all(filters, passes):
    assert labels_pass(filters, {"a": "1", "b": ""}) is passes


def test_nothing_has_no_labels():
    assert labels_pass({"label!": ("a",)}, None)
    assert not labels_pass({"label": ("a",)}, None)


@pytest.mark.parametrize(
    ("values", "expected"), [((), None), (("true",), True), (("1", "True"), True), (("0",), False)]
)
def test_yes_and_no_are_read(values, expected):
    assert truth({"dangling": values}, "dangling") is expected


@pytest.mark.parametrize("values", [("x",), ("true", "false")])
def test_what_is_neither_or_both_is_refused(values):
    with pytest.raises(InvalidInput, match=r"invalid filter 'dangling=\["):
        truth({"dangling": values}, "dangling")


def test_a_moment_is_a_date_or_a_duration_back():
    assert until_ns({"until": ("2024-01-02T03:04:05Z",)}) == 1704164645 * 10**9
    assert time.time_ns() - until_ns({"until": ("10m",)}) == pytest.approx(600e9, rel=0.1)
    assert until_ns({}) is None
    with pytest.raises(InvalidInput, match='failed to parse value as time or duration: "x"'):
        until_ns({"until": ("x",)})
    with pytest.raises(InvalidInput, match="more than one until"):
        until_ns({"until": ("1h", "2h")})


def test_the_longest_duration_counts():
    assert duration_ns(("1h", "2h"), "unused-for") == 7200 * 10**9
    assert duration_ns((), "unused-for") == 0


@pytest.mark.parametrize("text", ["x", "", "-1h", "30d"])
def test_what_is_no_duration_or_negative_is_refused(text):
    with pytest.raises(InvalidInput, match=f"invalid filter 'unused-for={text}'"):
        duration_ns((text,), "unused-for")


def test_an_unknown_filter_is_named():
    with pytest.raises(InvalidInput, match="invalid filter 'nosuch'"):
        check({"nosuch": ()}, {"label"})
