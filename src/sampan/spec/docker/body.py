"""The base of every Docker API body, and how one is read.

Go's `encoding/json` has habits that clients lean on, and that are kept here:

* a field is left out when empty only if it is marked `omitempty`. Here: a plain default is left out, `always(…)` never;
* `null` for any field means "not given", and names match without regard to case.

One habit is not kept: Docker ignores an unknown field. In a request it is refused here unless it is empty, because a
limit that nobody applies is worse than an error.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec

from sampan.errors import InvalidInput, Unsupported
from sampan.spec.decoding import convert, decode_json

T = TypeVar("T")
B = TypeVar("B", bound=msgspec.Struct)

Int = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""A number that a client gives: 64 bits, as in Go."""

# Words of field names whose form in Docker's names is not "first letter up". Other exceptions say theirs at the field.
_WORDS = {
    "api": "API", "bps": "Bps", "cdi": "CDI", "id": "ID", "ids": "IDs", "io": "IO", "iops": "IOps", "ip": "IP",
    "ipam": "IPAM", "ips": "IPs", "ipv4": "IPv4", "ipv6": "IPv6", "ncpu": "NCPU", "os": "OS", "rw": "RW", "tcp": "TCP",
    "uts": "UTS",
}  # fmt: skip


def docker_name(field: str) -> str:
    """Return Docker's name of a field: `image_id` → `ImageID`."""
    return "".join(_WORDS.get(word, word.capitalize()) for word in field.split("_"))


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=docker_name):
    """Any JSON object of an answer. A field equal to its plain default is left out."""


class Given(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=docker_name, forbid_unknown_fields=True
):
    """Any JSON object that a client sends (some come back in answers)."""


def always(value: T, name: str | None = None) -> T:
    """Declare a field that has a default and is written even when it has it.

    msgspec leaves out what equals a default, but doesn't call a factory to find out.
    """
    result: T = msgspec.field(default_factory=lambda: value, name=name)
    return result


def named(name: str, value: T) -> T:
    """Declare a field with an irregular name, left out when it has its default."""
    result: T = msgspec.field(default=value, name=name)
    return result


def decode(type: type[B], body: bytes) -> B:
    """Read what a client sent. Raises InvalidInput with the path of what is wrong, Unsupported for an unknown field."""
    try:
        return decode_json(body, type)  # our own client sends neither nulls nor unknown fields
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _decode_as_go(type, body, unknown="refuse")


def decode_answer(type: type[B], body: bytes) -> B:
    """Read what a server answered; a newer one's unknown fields are left out."""
    return _decode_as_go(type, body, unknown="drop")


def _decode_as_go(type: type[B], body: bytes, unknown: str) -> B:
    if not body.strip():
        raise InvalidInput("invalid JSON: got EOF while reading request body")
    try:
        document = msgspec.json.decode(body)
        if not isinstance(document, dict):
            raise InvalidInput("invalid JSON: the body must be an object")
        return convert(_shape(type).tidy(document, "$", unknown), type)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as e:
        raise InvalidInput(f"invalid JSON: {e}") from e


class _Shape(NamedTuple):
    """What of a type's JSON has to be tidied: `fields` of an object, or the `inner` of an array's or map's values."""

    fields: dict[str, tuple[str, _Shape | None]] | None = None
    inner: _Shape | None = None
    words: bool = False  # an array of strings, for which Docker takes one string as well (strslice)
    empty: bool = False  # a map of objects, in which null is an empty one

    def tidy(self, value: Any, path: str, unknown: str) -> Any:
        if self.fields is not None and isinstance(value, dict):
            return self._tidy_object(value, path, unknown)
        if self.words and isinstance(value, str):
            return [value]
        if self.inner is not None and isinstance(value, list):
            return [self.inner.tidy(v, f"{path}[{i}]", unknown) for i, v in enumerate(value)]
        if isinstance(value, dict):
            value = {k: {} if v is None and self.empty else v for k, v in value.items()}
            if self.inner is not None:
                return {k: self.inner.tidy(v, f"{path}.{k}", unknown) for k, v in value.items()}
        return value

    def _tidy_object(self, value: dict[str, Any], path: str, unknown: str) -> dict[str, Any]:
        result = {}
        for key, v in value.items():
            known = (self.fields or {}).get(key.lower())
            if known is None:
                if unknown == "refuse" and v not in (None, "", 0, False, [], {}):
                    raise Unsupported(f"unsupported: the field `{path}.{key}` is not known", "leave it out")
                continue
            name, inner = known
            if v is not None:
                result[name] = v if inner is None else inner.tidy(v, f"{path}.{name}", unknown)
        return result


_STRUCT = type(msgspec.Struct)


@cache
def _shape(type: Any) -> _Shape:
    """Return the shape of a struct's JSON."""
    fields = {}
    for field in msgspec.structs.fields(type):
        fields[field.encode_name.lower()] = (field.encode_name, _shape_of(field.type))
    return _Shape(fields=fields)


def _shape_of(type: Any) -> _Shape | None:
    if isinstance(type, _STRUCT):
        return _shape(type)
    if get_origin(type) is tuple and get_args(type)[0] is str:
        return _Shape(words=True)
    inner, empty = None, False
    if get_origin(type) is tuple:
        inner = _shape_of(get_args(type)[0])
    elif get_origin(type) is dict:
        values = get_args(type)[1]
        inner, empty = _shape_of(values), isinstance(values, _STRUCT) or get_origin(values) is dict
    else:  # a union: of None and at most one more shape
        shapes = [s for s in map(_shape_of, get_args(type)) if s is not None]
        return shapes[0] if shapes else None
    return _Shape(inner=inner, empty=empty) if inner is not None or empty else None
