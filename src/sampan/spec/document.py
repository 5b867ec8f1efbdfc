"""JSON that comes from outside."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from sampan.errors import InvalidInput

T = TypeVar("T")

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for JSON that is none, is not in UTF-8, or is nested too deeply."""


def decode_document(document: bytes, type: type[T], what: str) -> T:
    """Read `what` as JSON of this type, or raise InvalidInput that names the field which is wrong."""
    try:
        return msgspec.json.decode(document, type=type)
    except UNREADABLE as e:
        raise InvalidInput(f"can't read {what}: {e}") from e
