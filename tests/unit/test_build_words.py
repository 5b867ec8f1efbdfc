"""Substitution. `dockerfile/words.jsonl` is what BuildKit's frontend 1.19 made of each word in a LABEL's value."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from sampan.build.dockerfile import Fault, ast, expand, parse, words
from sampan.build.dockerfile.text import SPACES

RECORDS = [json.loads(row) for row in (Path(__file__).parent / "dockerfile" / "words.jsonl").read_text().splitlines()]
ENV = {"a": "abcabc", "x": "", "s": "one two  three", "p": "/usr/lib/x.tar.gz"}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["word"])
def test_a_word_becomes_what_buildkit_makes_of_it(record: dict[str, str]) -> None:
    directive = f"# escape={record['escape']}\n"
    dockerfile = parse(f"{directive}FROM busybox\nLABEL l={record['word']}\n")

    label = expand(dockerfile.stages[0].instructions[0], ENV, dockerfile.escape)

    assert isinstance(label, ast.Label)
    assert [pair.value for pair in label.pairs] == [record["value"]]


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("a  b", ("a", "b")),
        ("'a b' c\"d e\"f", ("a b", "cd ef")),
        ("$s", ("one", "two", "three")),
        ('"$s"', ("one two  three",)),
        ("a\\ b", ("a b",)),
        ("'' $x", ()),
    ],
)
def test_words_are_split_after_substitution_outside_quotes(text: str, split: tuple[str, ...]) -> None:
    assert words.split(text, ENV) == split


def test_what_was_met_and_missed_is_told() -> None:
    found = words.process("$a ${b:-$c} ${x+$d}", ENV)

    assert found.matched == {"a", "x"}
    assert found.unmatched == {"b", "c", "d"}


@pytest.mark.parametrize(
    "pattern", ["#*a*a*a*a*a*a*a*a*a*a*b", "%%b*a*a*a*a*a*a*a*a*a*a*", "//a*a*a*a*a*a*b/x", "//?/x", "//*/x"]
)
def test_no_pattern_takes_long(pattern: str) -> None:
    begun = time.process_time()

    words.expand("${v" + pattern + "}", {"v": "a" * 100_000})

    assert time.process_time() - begun < 5  # seconds; a backtracking engine would take years


def test_nesting_and_growth_have_an_end() -> None:
    with pytest.raises(Fault, match="nested too deeply"):
        words.expand("${a:-" * 1000 + "}" * 1000, {})
    with pytest.raises(Fault, match="more than 1 MiB"):
        words.expand("$v" * 3, {"v": "x" * 500_000})


@given(st.text(alphabet=f"ab é={SPACES}", max_size=12))
def test_a_text_with_nothing_to_substitute_is_what_it_is_with_quotes_around_nothing(text: str) -> None:
    assert words.process(text, {}) == words.process(f"{text}''", {})
