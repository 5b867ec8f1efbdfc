"""An instruction's line in its pieces: keyword, options (`--name=value`), and the rest in JSON or in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.build.dockerfile.errors import Fault, suggest
from sampan.build.dockerfile.text import ASCII_SPACES, BETWEEN_WORDS, SPACES, trim

if TYPE_CHECKING:
    from collections.abc import Iterable

_DECODER = msgspec.json.Decoder(list[object])


def split_keyword(line: str) -> tuple[str, str]:
    """Return an instruction's keyword as written, and what follows it."""
    keyword, *rest = BETWEEN_WORDS.split(trim(line), maxsplit=1)
    return keyword, rest[0] if rest else ""


def split_options(text: str) -> tuple[list[str], str]:
    """Return the leading words that begin with `--`, without quotes, and the trimmed rest. `--` alone ends them."""
    options: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at] in ASCII_SPACES:
            at += 1
        if not text.startswith("--", at):
            return options, trim(text[at:])
        word, at = _option(text, at)
        if word == "--":
            return options, trim(text[at:])
        options.append(word)


def _option(text: str, at: int) -> tuple[str, int]:
    """Read one option: quotes are taken away, a backslash keeps the next character (also in single quotes)."""
    word = []
    quote = ""
    while at < len(text) and (quote or text[at] not in ASCII_SPACES):
        character = text[at]
        at += 1
        if character == "\\":
            word.append(text[at : at + 1])
            at += 1
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        else:
            word.append(character)
    return "".join(word), at


class Options:
    """The options of one instruction, read by what it knows. Raises Fault."""

    def __init__(
        self, given: Iterable[str], *, text: Iterable[str] = (), many: Iterable[str] = (), flags: Iterable[str] = ()
    ) -> None:
        self._values: dict[str, list[str]] = {}
        self._text, self._many, self._flags = frozenset(text), frozenset(many), frozenset(flags)
        for option in given:
            self._add(option)

    def _add(self, option: str) -> None:
        name, equals, value = option[2:].partition("=")
        known = self._text | self._many | self._flags
        if name not in known:
            raise Fault(f"unknown flag: --{name}{suggest(name, sorted(known))}", f"--{name}", _known(known))
        if name in self._values and name not in self._many:
            raise Fault(f"duplicate flag specified: --{name}", f"--{name}")
        if name in self._flags:
            value = (value.lower() if value else "") if equals else "true"
            if value not in {"true", "false"}:
                cause = f"expecting boolean value for flag --{name}, not: {value}" if value else _missing(name)
                raise Fault(cause, f"--{name}")
        elif not equals:
            raise Fault(_missing(name), f"--{name}")
        self._values.setdefault(name, []).append(value)

    def text(self, name: str, default: str = "") -> str:
        """Return the option's value."""
        return self._values.get(name, [default])[0]

    def many(self, name: str) -> tuple[str, ...]:
        """Return all values of an option that may be given several times."""
        return tuple(self._values.get(name, ()))

    def flag(self, name: str) -> bool | None:
        """Return a boolean option, None where it isn't given."""
        return self._values[name][0] == "true" if name in self._values else None


def _missing(name: str) -> str:
    return f"missing a value on flag: --{name}"


def _known(known: Iterable[str]) -> str:
    names = ", ".join(f"--{name}" for name in sorted(known))
    return f"it takes {names}" if names else "it takes no options"


def json_words(text: str) -> tuple[str, ...] | None:
    """Return the strings of a JSON array; None where it is none, and then the text is in shell form, as in BuildKit.

    Raises Fault for an array with anything but strings.
    """
    text = text.lstrip(SPACES)
    if not text.startswith("["):
        return None
    try:
        items = _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    words = tuple(item for item in items if isinstance(item, str))
    if len(words) != len(items):
        raise Fault("when using JSON array syntax, arrays must be comprised of strings only", text)
    return words
