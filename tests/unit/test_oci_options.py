"""The words of `sampan-runtime`'s command line."""

from __future__ import annotations

import pytest

from sampan.errors import InvalidInput
from sampan.oci.commands.kill import signal_number
from sampan.oci.options import Option, parse

OPTIONS = (Option("bundle b", "a directory"), Option("force f", "a flag", "flag"), Option("number n", "a number"))


@pytest.mark.parametrize(
    "words",
    [("--bundle", "/b", "id"), ("--bundle=/b", "id"), ("-bundle", "/b", "id"), ("-b", "/b", "id"), ("id", "-b=/b")],
)
def test_an_option_is_spelt_in_five_ways(words):
    given = parse(OPTIONS, words)

    assert (given.value("bundle"), given.arguments) == ("/b", ["id"])


@pytest.mark.parametrize(
    ("word", "set"), [("-f", True), ("--force=true", True), ("--force=false", False), ("x", False)]
)
def test_a_flag_may_be_given_its_value(word, set):
    assert parse(OPTIONS, (word,)).flag("force") is set


def test_what_comes_behind_the_first_argument_is_a_programs_where_that_is_asked_for():
    given = parse(OPTIONS, ("-f", "id", "ls", "-f", "--bundle"), interspersed=False)

    assert given.arguments == ["id", "ls", "-f", "--bundle"]


def test_two_dashes_end_the_options():
    assert parse(OPTIONS, ("--", "-f")).arguments == ["-f"]


@pytest.mark.parametrize("words", [("--nonsense",), ("--bundle",), ("--force=perhaps",), ("-x=1",)])
def test_what_is_no_option_is_refused(words):
    with pytest.raises(InvalidInput):
        parse(OPTIONS, words)


def test_a_number_is_a_number():
    assert parse(OPTIONS, ("-n", "0x10")).number("number") == 16
    assert parse(OPTIONS, ()).number("number") is None
    with pytest.raises(InvalidInput):
        parse(OPTIONS, ("-n", "many")).number("number")


@pytest.mark.parametrize(
    ("text", "number"), [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("usr1", 10), ("0", 0), ("RTMIN+1", 35)]
)
def test_a_signal_is_a_number_or_a_name(text, number):
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "-1", "99", "NONESUCH", "_SETMASK", "SIG_BLOCK"])
def test_what_is_no_signal_is_refused(text):
    with pytest.raises(InvalidInput):
        signal_number(text)
