"""Values of flags; what Docker's client does with the same words is in test_cli_like_docker."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sampan.cli.failure import quoted
from sampan.cli.moments import moment
from sampan.cli.progress import bar
from sampan.cli.table import ellipsis, human_size, tabulate
from sampan.cli.terminal import parse_keys
from sampan.cli.values import parse_bytes, parse_cpus, parse_mount, split_csv


@pytest.mark.parametrize(
    ("text", "size"), [("1k", 1024), ("1.5g", 3 << 29), ("64KiB", 65536), ("10B", 10), ("1 m", 1 << 20), ("1e3", 1000)]
)
def test_bytes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1x", "1kx", "1.2.3", "k", ".", "1e", "\u0661k", "1_0"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError):
        parse_bytes(text)


@given(st.integers(min_value=0, max_value=10**9), st.sampled_from(["", "b", "k", "KB", "kib", "m", "g"]))
def test_sizes_are_exact(number, unit):
    factor = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}[unit[:1].lower()]

    assert parse_bytes(f"{number}{unit}") == number * factor


@pytest.mark.parametrize(
    ("text", "nano"), [("1.5", 1_500_000_000), (".5", 500_000_000), ("2", 2 * 10**9), ("1.", 10**9)]
)
def test_cpus(text, nano):
    assert parse_cpus(text) == nano


@given(st.text(max_size=30))
def test_a_mount_is_understood_or_refused_with_a_cause(text):
    try:
        mount = parse_mount(text)
    except ValueError as e:
        assert str(e)  # noqa: PT017
    else:
        assert mount["Target"]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\x00"), max_size=8), min_size=1))
def test_fields_in_quotes_are_what_they_were(fields):
    text = ",".join('"' + field.replace('"', '""') + '"' for field in fields)

    assert split_csv(text) == fields


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a", '"a"'), ('a"b', '"a\\"b"'), ("a\n\t\\", '"a\\n\\t\\\\"'), ("\x01", '"\\x01"'), ("ä", '"ä"')],
)
def test_text_is_quoted_as_go_does_it(text, shown):
    assert quoted(text) == shown


@pytest.mark.parametrize(
    ("text", "keys"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("a", b"a"), ("ctrl-@,ctrl-[,ctrl-_", b"\0\x1b\x1f"), ("ctrl-Z,b", b"\x1ab")],
)
def test_detach_keys(text, keys):
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", ",", "ä", "ctrl-p,,x"])
def test_other_detach_keys_are_refused(text):
    with pytest.raises(ValueError):
        parse_keys(text)


def test_a_moment_is_seconds_with_nine_digits():
    assert moment("2024-01-02T03:04:05.5Z", "since") == "1704164645.500000000"
    assert moment("", "since") == ""


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_982_390, "1.982MB"), (5 * 10**18, "5EB")]
)
def test_sizes_have_four_digits(size, shown):
    assert human_size(size) == shown


@pytest.mark.parametrize(("size", "shown"), [(3, "abc"), (2, "a…"), (1, "…")])
def test_long_texts_end_in_dots(size, shown):
    assert ellipsis("abc", size) == shown


def test_columns_are_ten_wide_and_three_apart():
    assert tabulate([["A", "B", "C"], ["longer than ten", "x", "y"]]) == (
        "A                 B         C\nlonger than ten   x         y\n"
    )


@pytest.mark.parametrize(
    ("current", "total", "shown"),
    [
        (0, 10, "[>" + " " * 49 + "]  0B/10B"),
        (5, 10, "[" + "=" * 25 + ">" + " " * 24 + "]  5B/10B"),
        (10, 10, "[" + "=" * 50 + "]  10B/10B"),
        (1500, 0, "1.5kB"),
    ],
)
def test_progress_bars(current, total, shown):
    assert bar(current, total) == shown
