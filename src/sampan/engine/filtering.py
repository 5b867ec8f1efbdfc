"""Filters of lists and prunes, read as Docker reads them; its words where one is wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sampan.engine import expressions
from sampan.errors import InvalidInput
from sampan.units import parse_duration, parse_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sampan.engine.requests import Filters

_TRUE, _FALSE = ("true", "1"), ("false", "0")


def check(filters: Filters, known: Collection[str]) -> None:
    """Refuse a filter by its name."""
    for name in filters:
        if name not in known:
            raise InvalidInput(f"invalid filter '{name}'", f"there are {', '.join(sorted(known))}")


def truth(filters: Filters, name: str) -> bool | None:
    """Return what a filter of yes or no says, None where it is not given."""
    values = filters.get(name)
    if not values:
        return None
    yes, no = (any(value.lower() in words for value in values) for words in (_TRUE, _FALSE))
    if yes == no:
        raise InvalidInput(f"invalid filter '{name}=[{' '.join(values)}]'", "it is true or false")
    return yes


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """Tell whether `key` or `key=value` is among the labels."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def search(pattern: str, text: str) -> bool:
    """Tell whether a regular expression, or what is none, is found in a text. Raises InvalidInput if it takes long."""
    try:
        return expressions.found(pattern, text)
    except expressions.Malformed:
        return pattern in text


def labels_pass(filters: Filters, labels: Mapping[str, str] | None) -> bool:
    """Tell whether every `label` is there and not every `label!`: moby, daemon/prune.go, matchLabels."""
    labels = labels or {}
    unwanted = filters.get("label!", ())
    if unwanted and all(has_label(labels, value) for value in unwanted):
        return False
    return all(has_label(labels, value) for value in filters.get("label", ()))


def until_ns(filters: Filters) -> int | None:
    """Return the one moment of `until`, None where it is not given."""
    values = filters.get("until", ())
    if len(values) > 1:
        raise InvalidInput("more than one until filter specified")
    return moment_ns(values[0]) if values else None


def moment_ns(text: str) -> int:
    """Read a time, or a duration back from now."""
    try:
        return parse_time(text, time.time_ns())
    except InvalidInput as e:
        raise InvalidInput(f'failed to parse value as time or duration: "{text}"', e.hint) from None


def duration_ns(values: Iterable[str], name: str) -> int:
    """Return the greatest of the durations that a filter names; 0 where there are none."""
    greatest = 0
    for text in values:
        hint = "it is a duration and not negative: 720h"
        try:
            duration = parse_duration(text)
        except InvalidInput as e:
            duration, hint = -1, e.hint
        if duration < 0:
            raise InvalidInput(f"invalid filter '{name}={text}'", hint)
        greatest = max(greatest, duration)
    return greatest
