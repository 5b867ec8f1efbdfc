"""What is used of `typing` when a program runs: names in annotations, and named tuples."""

from __future__ import annotations

from _collections import _tuplegetter  # type: ignore[import-not-found]  # as collections.namedtuple does

TYPE_CHECKING = False


class Hint:
    """A name in an annotation: `Any`, or with what stands in its brackets `Literal["a"]`, `Annotated[int, …]`."""

    __slots__ = ("arguments", "kind")

    def __init__(self, kind: str, arguments: tuple[object, ...] = ()) -> None:
        self.kind = kind
        self.arguments = arguments

    def __getitem__(self, arguments: object) -> Hint:
        """Return it with its brackets."""
        return Hint(self.kind, arguments if isinstance(arguments, tuple) else (arguments,))

    def __or__(self, other: object) -> Hint:
        """Return a union."""
        return Hint("Union", (self, other))

    def __call__(self, *arguments: object, **options: object) -> Hint:
        """Be a TypeVar's making."""
        return self


Annotated, Any, ClassVar, Generic, Literal, NoReturn, Self, TypeVar, Union = map(
    Hint, ("Annotated", "Any", "ClassVar", "Generic", "Literal", "NoReturn", "Self", "TypeVar", "Union")
)


def overload(function: object) -> object:
    """Say how else it may be called."""
    return function


def get_args(hint: Hint) -> tuple[object, ...]:
    """Return what stands in a name's brackets."""
    return hint.arguments


class Protocol:
    """A base that asks for nothing."""


def assert_never(value: object) -> None:
    """Say that a value is of a kind that a `match` has forgotten."""
    raise AssertionError(f"expected this to be unreachable, got {value!r}")


class _NamedTupleType(type):
    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, object]) -> type:
        if not bases:
            return type.__new__(cls, name, bases, namespace)
        hints = namespace.pop("__annotations__", {})
        assert isinstance(hints, dict)
        fields = tuple(hints)
        defaults = {field: namespace.pop(field) for field in fields if field in namespace}
        namespace |= {field: _tuplegetter(at, "") for at, field in enumerate(fields)}
        namespace |= {"__slots__": (), "_fields": fields, "_defaults": defaults, "__match_args__": fields}
        return type(name, (_Record,), namespace)


class _Record(tuple[object, ...]):
    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _defaults: dict[str, object] = {}

    def __new__(cls, *values: object, **named: object) -> _Record:
        if named or len(values) < len(cls._fields):
            given = cls._defaults | named
            values += tuple(given[field] for field in cls._fields[len(values) :])
        return tuple.__new__(cls, values)

    def _replace(self, **named: object) -> _Record:
        return type(self)(**(self._asdict() | named))

    def _asdict(self) -> dict[str, object]:
        return dict(zip(self._fields, self, strict=True))


class NamedTuple(metaclass=_NamedTupleType):
    """The base of tuples whose items have names."""
