"""Clients' regular expressions: what is looked for, and what would take the server's time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from sampan.engine.expressions import Malformed, found
from sampan.errors import InvalidInput


@pytest.mark.parametrize(
    ("expression", "text", "is_there"),
    [
        ("web", "shop-web-1", True),
        ("^web", "shop-web-1", False),
        (".*web.*", "shop-web-1", True),
        (r"^/?shop-(web|db)-\d+$", "/shop-db-12", True),
        (r"^(\d{1,3}\.){3}\d{1,3}$", "192.168.100.200", True),
        ("[]a]+x", "]a]x", True),
        (r"[^\]]*y{,}", "xy{,}", True),
        ("(foo|bar)+$", "foobar", True),
        (".*?b", "ab", True),
        ("", "x", True),
    ],
)
def test_what_people_write_is_looked_for(expression: str, text: str, is_there: bool) -> None:
    assert found(expression, text) is is_there


@pytest.mark.parametrize(
    "expression",
    [
        "(a+)+$", "(a|a)*$", "(a|aa)+$", "(?:a*)*b", "a?" * 30 + "a" * 30, "(a?){30}a{30}b", ".*.*.*.*.*.*x",
        "(x+x+)+y", "((a{0,50}){0,50}){0,50}b", "(?P<n>a+)+b", "(?=(a+))*b", "(a+)(?#)+$", "(?x)(a+) +$",
        r"[\])](a+)+$|(a+)+$", r"[^]a](a+)+|(a+)+$", r"\((a+)+|(a+)+$", "(a*)*(a*)*$", "(?:(?:a|b)|a)*$",
    ],
)  # fmt: skip
def test_what_would_keep_the_server_busy_is_refused(expression: str) -> None:
    with pytest.raises(InvalidInput, match="too many ways"):
        found(expression, "a" * 64 + "!")


@pytest.mark.parametrize("expression", ["(a", "a{99999999999999999999}", "x" * 2000, "(" * 500 + ")" * 500 + "["])
def test_what_is_no_expression_says_so(expression: str) -> None:
    with pytest.raises(Malformed):
        found(expression, "x")


@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")
@given(st.text("a|()*+?{}12,[]^\\.b-", max_size=24))
def test_whatever_is_looked_for_is_found_or_not_before_long(expression: str) -> None:
    try:
        result = found(expression, "a" * 40)
    except (Malformed, InvalidInput):
        return

    assert result is (re.search(expression, "a" * 40) is not None)
