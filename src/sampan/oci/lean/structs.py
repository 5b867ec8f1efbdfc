"""What is used of `msgspec` to read a config.json, plan a container and perform the plan.

`Struct` takes msgspec's class options and ignores those that change only what others see of it (frozen, array_like).
"""

from __future__ import annotations

import sys

from sampan.client.jsontext import dumps, loads
from sampan.oci.lean.hints import Hint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Convert = Callable[[Any, str], Any]


class DecodeError(Exception):
    """The document is no JSON."""


class ValidationError(DecodeError):
    """The document is not of the type."""


class Meta:
    """What a value must be beside its type."""

    def __init__(
        self, *, ge: int | None = None, le: int | None = None, pattern: str | None = None, min_length: int | None = None
    ) -> None:
        self.ge, self.le, self.pattern, self.min_length = ge, le, pattern, min_length


_MISSING: Any = object()


class _Field:
    __slots__ = ("default", "name")

    def __init__(self, default: Any, name: str | None) -> None:
        self.default, self.name = default, name


def field(*, default: Any = _MISSING, name: str | None = None) -> Any:
    """Give a field another name in documents."""
    return _Field(default, name)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class _StructType(type):
    __struct_fields__: tuple[str, ...]
    _names: dict[str, str]  # of each field in documents
    _defaults: dict[str, Any]
    _hints: dict[str, tuple[str, dict[str, Any]]]  # as they are written, and where they mean something
    _options: dict[str, Any]
    _converters: list[tuple[str, str, Convert]] | None

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> _StructType:
        above: Any = bases[0] if bases else None
        hints = dict(above._hints) if above else {}
        defaults = dict(above._defaults) if above else {}
        names = dict(above._names) if above else {}
        options = {**(above._options if above else {}), **options}
        scope = sys.modules[namespace["__module__"]].__dict__
        renamed = options.get("rename") == "camel"
        for key, hint in namespace.get("__annotations__", {}).items():
            if hint.startswith("ClassVar"):
                continue
            hints[key] = (hint, scope)
            names[key] = _camel(key) if renamed else key
            if key not in namespace:
                continue
            default = namespace.pop(key)
            if isinstance(default, _Field):
                names[key], default = default.name or names[key], default.default
            if default is not _MISSING:
                defaults[key] = default
        fields = tuple(hints)
        namespace["__match_args__"] = fields
        made: Any = super().__new__(cls, name, bases, namespace)
        made.__struct_fields__ = fields
        made._hints, made._defaults, made._names, made._options = hints, defaults, names, options
        made._converters = None
        struct: _StructType = made
        return struct

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> None:
        """Take the options that `__new__` has read."""
        super().__init__(name, bases, namespace)


class Struct(metaclass=_StructType):
    """A record of the fields that a class's annotations name."""

    def __init__(self, *values: Any, **named: Any) -> None:
        cls: Any = type(self)
        own = self.__dict__
        own.update(cls._defaults)
        if values:
            own.update(zip(cls.__struct_fields__, values, strict=False))
        own.update(named)
        if len(own) != len(cls.__struct_fields__):
            raise TypeError(f"{cls.__name__}: {sorted(own.keys() ^ set(cls.__struct_fields__))} missing or unknown")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *(self.__dict__[name] for name in type(self).__struct_fields__)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


def replace(struct: Any, **changes: Any) -> Any:
    """Return the same struct with other values."""
    return type(struct)(**(struct.__dict__ | changes))


structs = sys.modules[__name__]
"""`msgspec.structs`."""
__path__: list[str] = []


# ------------------------------------------------------------------------------------------------------------ decoding


def convert(value: Any, type: Any) -> Any:
    """Make a struct of what a document holds; raise ValidationError with the place that is wrong."""
    return _converter(type, {})(value, "$")


def _at(path: str) -> str:
    return "" if path == "$" else f" - at `{path}`"


def _wrong(wanted: str, value: Any, path: str) -> ValidationError:
    names = {
        str: "str",
        bool: "bool",
        int: "int",
        float: "float",
        list: "array",
        dict: "object",
        None.__class__: "null",
    }
    return ValidationError(f"Expected `{wanted}`, got `{names[value.__class__]}`{_at(path)}")


def _text(value: Any, path: str) -> str:
    if value.__class__ is not str:
        raise _wrong("str", value, path)
    return value


def _whole(value: Any, path: str) -> int:
    if value.__class__ is float and value.is_integer():
        return int(value)
    if value.__class__ is not int:
        raise _wrong("int", value, path)
    return value


def _truth(value: Any, path: str) -> bool:
    if value.__class__ is not bool:
        raise _wrong("bool", value, path)
    return value


def _anything(value: Any, path: str) -> Any:
    del path
    return value


_PLAIN: dict[str, Convert] = {"str": _text, "int": _whole, "bool": _truth, "Any": _anything}


def _of_hint(hint: str, scope: dict[str, Any]) -> Convert:
    if hint in _PLAIN:
        return _PLAIN[hint]
    if hint.endswith(" | None"):
        return _or_none(_of_hint(hint.removesuffix(" | None"), scope))
    if hint.startswith("tuple[") and hint.endswith(", ...]"):
        return _array(_of_hint(hint[6:-6], scope))
    if hint.startswith("dict[str, "):
        return _object(_of_hint(hint[10:-1], scope))
    return _converter(eval(hint, scope), scope)  # noqa: S307  # an annotation of ours


def _converter(hint: Any, scope: dict[str, Any]) -> Convert:
    if isinstance(hint, str):
        return _of_hint(hint, scope)
    if isinstance(hint, _StructType):
        return _struct(hint)
    if isinstance(hint, Hint):
        return _special(hint, scope)
    name = getattr(hint, "__name__", "")
    if hint.__class__ is type:
        return _PLAIN[name]
    arguments = hint.__args__
    return _array(_converter(arguments[0], scope)) if name == "tuple" else _object(_converter(arguments[1], scope))


def _special(hint: Hint, scope: dict[str, Any]) -> Convert:
    match hint.kind:
        case "Literal":
            return _one_of(hint.arguments)
        case "Annotated":
            return _limited(_converter(hint.arguments[0], scope), hint.arguments[1])
        case "Union":
            return _or_none(_converter(hint.arguments[0], scope))
        case _:
            return _anything


def _or_none(inner: Convert) -> Convert:
    return lambda value, path: None if value is None else inner(value, path)


def _array(inner: Convert) -> Convert:
    def array(value: Any, path: str) -> tuple[Any, ...]:
        if value.__class__ is not list:
            raise _wrong("array", value, path)
        return tuple([inner(item, f"{path}[{number}]") for number, item in enumerate(value)])

    return array


def _object(inner: Convert) -> Convert:
    def object(value: Any, path: str) -> dict[str, Any]:
        if value.__class__ is not dict:
            raise _wrong("object", value, path)
        return {key: inner(item, f"{path}[...]") for key, item in value.items()}

    return object


def _one_of(words: tuple[Any, ...]) -> Convert:
    def literal(value: Any, path: str) -> Any:
        if value.__class__ is not str:
            raise _wrong("str", value, path)
        if value not in words:
            raise ValidationError(f"Invalid enum value {value!r}{_at(path)}")
        return value

    return literal


def _limited(inner: Convert, meta: Any) -> Convert:
    def limited(value: Any, path: str) -> Any:
        found = inner(value, path)
        if meta.ge is not None and found < meta.ge:
            raise ValidationError(f"Expected `int` >= {meta.ge}{_at(path)}")
        if meta.le is not None and found > meta.le:
            raise ValidationError(f"Expected `int` <= {meta.le}{_at(path)}")
        if meta.min_length is not None and len(found) < meta.min_length:
            raise ValidationError(f"Expected `array` of length >= {meta.min_length}{_at(path)}")
        if meta.pattern is not None:
            import re

            if not re.search(meta.pattern, found):
                raise ValidationError(f"Expected `str` matching regex {meta.pattern!r}{_at(path)}")
        return found

    return limited


def _struct(cls: Any) -> Convert:
    def struct(value: Any, path: str) -> Any:
        if value.__class__ is not dict:
            raise _wrong("object", value, path)
        if cls._converters is None:
            cls._converters = [(key, cls._names[key], _of_hint(*hint)) for key, hint in cls._hints.items()]
        found = {}
        for key, name, inner in cls._converters:
            if name in value:
                found[key] = inner(value[name], f"{path}.{name}")
            elif key not in cls._defaults:
                raise ValidationError(f"Object missing required field `{name}`{_at(path)}")
        return cls(**found)

    return struct


# ----------------------------------------------------------------------------------------------- documents, encoding


def to_builtins(value: Any) -> Any:
    """Return what a document says of a value."""
    if isinstance(value, Struct):
        cls: Any = type(value)
        terse = cls._options.get("omit_defaults")
        return {
            cls._names[key]: to_builtins(item)
            for key, item in value.__dict__.items()
            if not (terse and key in cls._defaults and item == cls._defaults[key])
        }
    if isinstance(value, (list, tuple)):
        return [to_builtins(item) for item in value]
    if isinstance(value, dict):
        return {key: to_builtins(item) for key, item in value.items()}
    return value


class json:
    """JSON."""

    class Decoder:
        """Reads documents of one type."""

        def __init__(self, type: Any = None) -> None:
            self._type = type

        def decode(self, document: bytes | str) -> Any:
            """Read one."""
            return json.decode(document, type=self._type)

    class Encoder:
        """Writes documents."""

        def encode(self, value: Any) -> bytes:
            """Write one."""
            return json.encode(value)

    @staticmethod
    def decode(document: bytes | str, type: Any = None) -> Any:
        """Read a document; raise DecodeError or ValidationError."""
        text = document.decode() if isinstance(document, bytes) else document
        try:
            value = loads(text)
        except ValueError as e:
            raise DecodeError(f"JSON is malformed: {e}") from None
        return value if type is None else convert(value, type)

    @staticmethod
    def encode(value: Any) -> bytes:
        """Write a document."""
        return dumps(to_builtins(value)).encode()


class msgpack:
    """MessagePack, of which only the making is used here: a plan is performed by the process that has computed it."""

    class Decoder:
        """Reads nothing."""

        def __init__(self, type: Any = None) -> None:
            self._type = type

    class Encoder:
        """Writes nothing."""
