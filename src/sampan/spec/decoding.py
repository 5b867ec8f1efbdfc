"""Reading JSON as a type, from any thread."""

from __future__ import annotations

import _thread
from typing import Any, TypeVar, overload

import msgspec

from sampan.errors import InvalidInput
from sampan.spec.document import UNREADABLE

T = TypeVar("T")

_known: set[Any] = set()
_learning = _thread.allocate_lock()


@overload
def decode_json(document: bytes | str, type: type[T]) -> T: ...
@overload
def decode_json(document: bytes | str, type: Any) -> Any: ...
def decode_json(document: bytes | str, type: Any) -> Any:
    """Read JSON as this type, as msgspec.json.decode, which threads must not call for a type that is new to it."""
    _learn(type)
    return msgspec.json.decode(document, type=type)


@overload
def convert(value: Any, type: type[T], *, from_attributes: bool = False) -> T: ...
@overload
def convert(value: Any, type: Any, *, from_attributes: bool = False) -> Any: ...
def convert(value: Any, type: Any, *, from_attributes: bool = False) -> Any:
    """Read a value as this type, as msgspec.convert, of which the same is true."""
    _learn(type)
    return msgspec.convert(value, type, from_attributes=from_attributes)


def _learn(type: Any) -> None:
    """Have msgspec look at a type, one thread at a time.

    It does so at the first use, and what it has found is there for others before it is whole: a second thread follows
    a pointer that is null. msgspec 0.22, StructInfo_Convert in _core.c.
    """
    if type not in _known:
        with _learning:
            msgspec.json.Decoder(type)
        _known.add(type)


def decode_document(document: bytes, type: type[T], what: str) -> T:
    """Read `what` as JSON of this type, or raise InvalidInput that names the field which is wrong."""
    try:
        return decode_json(document, type)
    except UNREADABLE as e:
        raise InvalidInput(f"can't read {what}: {e}") from e
