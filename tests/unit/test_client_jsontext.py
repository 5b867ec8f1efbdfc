"""The small JSON agrees with the standard library's."""

import json

import pytest
from hypothesis import given, strategies as st

from sampan.client import jsontext

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_json_writes_is_read_the_same(value: object) -> None:
    assert jsontext.loads(json.dumps(value)) == value
    assert jsontext.loads(json.dumps(value, indent=2).encode()) == value


@given(VALUES)
def test_what_is_written_is_read_by_json(value: object) -> None:
    assert json.loads(jsontext.dumps(value)) == value


@given(VALUES)
def test_what_is_indented_is_what_json_indents(value: object) -> None:
    assert jsontext.indented(value) == json.dumps(value, indent=4, ensure_ascii=False)


@given(st.text() | st.binary())
def test_anything_else_is_a_value_error(text: str | bytes) -> None:
    try:
        expected = json.loads(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
    except ValueError:
        with pytest.raises(ValueError, match="JSON"):
            jsontext.loads(text)
    else:
        assert repr(jsontext.loads(text)) == repr(expected)


@pytest.mark.parametrize("text", ["", " ", "{", '{"a":', "[1,", "nul", "1 2", '"\\x"', '{"a" 1}'])
def test_broken_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="JSON"):
        jsontext.loads(text)
