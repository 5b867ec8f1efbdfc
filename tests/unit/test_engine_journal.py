"""What the journal has of a container, read again."""

from __future__ import annotations

from sampan.engine.journal import _attributes


def test_a_field_that_somebody_gave_twice_is_no_attribute() -> None:
    raw = b'{"MESSAGE":"x","app":"shop","TWICE":["a","b"],"BYTES":[1,2],"BOTH":[[1],[2]],"_PID":"1"}'

    assert _attributes(raw) == {"app": "shop"}
