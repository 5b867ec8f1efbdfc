"""JSON by the interpreter's C scanner and encoder alone.

`json` itself imports `re` and `enum`, which is half of the command line's start; its C half, `_json`, imports nothing.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WHITE = " \t\n\r"


class _Options:
    """What the C scanner asks its context for, with `json.loads`'s defaults."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


_scan = _json.make_scanner(_Options())  # type: ignore[arg-type]


def loads(data: bytes | str) -> Any:
    """Return the value of one JSON text. Raises ValueError."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    start = len(text) - len(text.lstrip(_WHITE))
    try:
        value, end = _scan(text, start)
    except (StopIteration, SystemError, ValueError):  # SystemError: its own error needs `json.decoder` to be imported
        raise ValueError(f"no JSON: {text[:80]!r}") from None
    if text[end:].strip(_WHITE):
        raise ValueError(f"more than one JSON value: {text[end : end + 80]!r}")
    return value


def _unknown(value: object) -> object:
    raise TypeError(f"no JSON form for {type(value).__name__}")


_quote = _json.encode_basestring
_encode = _json.make_encoder(None, _unknown, _quote, None, ":", ",", False, False, False)


def dumps(value: Any) -> str:
    """Return the shortest JSON text of dicts, lists, strings, numbers, booleans and None."""
    return "".join(_encode(value, 0))


def indented(value: Any, margin: str = "\n") -> str:
    """Return the text with a line for each member, four spaces further in than `margin`, which begins lines."""
    if isinstance(value, str):  # most are
        return _quote(value)
    if isinstance(value, dict):
        inner = f"{margin}    "
        members = [f"{_quote(str(key))}: {indented(member, inner)}" for key, member in value.items()]
        return f"{{{inner}{f',{inner}'.join(members)}{margin}}}" if members else "{}"
    if isinstance(value, (list, tuple)):
        inner = f"{margin}    "
        members = [indented(member, inner) for member in value]
        return f"[{inner}{f',{inner}'.join(members)}{margin}]" if members else "[]"
    return dumps(value)
