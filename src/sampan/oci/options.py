"""The words of a command line as runc and crun take them.

An option has one dash or two; `--name value` and `--name=value` mean the same; a flag may be given as `--name=false`.
Options may come between and after the arguments, unless those are a program's (`exec`).
"""

from __future__ import annotations

from sampan.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_TRUE, _FALSE = ("true", "1", "t", "T", "TRUE", "True"), ("false", "0", "f", "F", "FALSE", "False")


class Option:
    """One option: `kind` is "flag" or "value"; `names` are without dashes, the one that it is asked for by first."""

    __slots__ = ("kind", "names", "say")

    def __init__(self, names: str, say: str, kind: str = "value") -> None:
        self.names = tuple(names.split())
        self.say = say
        self.kind = kind


class Given:
    """What was given: options by their first name, and the arguments."""

    __slots__ = ("_values", "arguments")

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self.arguments: list[str] = []

    def add(self, name: str, value: str) -> None:
        self._values.setdefault(name, []).append(value)

    def flag(self, name: str) -> bool:
        """Whether a flag was given."""
        return bool(self._values.get(name)) and self._values[name][-1] == "true"

    def value(self, name: str, default: str = "") -> str:
        """Return an option's value, the last one where it was given twice."""
        return self._values[name][-1] if name in self._values else default

    def values(self, name: str) -> list[str]:
        """Return all values of an option that may be given several times."""
        return self._values.get(name, [])

    def number(self, name: str) -> int | None:
        """Return a whole number, None where the option was not given."""
        if name not in self._values:
            return None
        try:
            return int(self._values[name][-1], 0)
        except ValueError:
            raise InvalidInput(f"can't use --{name} {self._values[name][-1]!r}: it is no number") from None


def parse(options: Sequence[Option], words: Sequence[str], *, interspersed: bool = True) -> Given:
    """Sort words into options and arguments; raise InvalidInput for an option that is unknown or lacks its value."""
    table = {name: option for option in options for name in option.names}
    given = Given()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            given.arguments += rest
            break
        if word[:1] != "-" or word == "-":
            given.arguments.append(word)
            if not interspersed:
                given.arguments += rest
                break
            continue
        name, equals, value = word.lstrip("-").partition("=")
        option = table.get(name)
        if option is None:
            raise InvalidInput(f"flag provided but not defined: -{name}")
        if option.kind == "flag":
            value = _truth(name, value) if equals else "true"
        elif not equals:
            if not rest:
                raise InvalidInput(f"flag needs an argument: -{name}")
            value = rest.pop(0)
        given.add(option.names[0], value)
    return given


def _truth(name: str, value: str) -> str:
    if value in _TRUE:
        return "true"
    if value in _FALSE:
        return "false"
    raise InvalidInput(f"can't use --{name}={value}: it is neither true nor false")
