"""Flags as data, and the parser that reads them as Docker's does (the rules of Go's pflag).

One `Flag` is a row: parser, help, completion and the field of the API's body that it fills.

    --name value   --name=value   -n value   -nvalue   -n=value   -it (a cluster)   --bool   --bool=false   --

A verb with a command in its arguments (`run`, `exec`) stops at the first word that is no flag.
"""

from __future__ import annotations

import os

from sampan.cli.failure import Unavailable, UsageError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_INT64 = 1 << 63


class Flag:
    """One flag of a verb. `kind` says how its value is read and shown: see KINDS and cli/values."""

    __slots__ = ("api", "default", "environment", "group", "help", "kind", "name", "short", "unsupported")

    def __init__(
        self,
        name: str,
        kind: str,
        help: str,
        *,
        short: str = "",
        default: object = None,
        group: str = "",
        api: str = "",
        unsupported: str | None = None,
        environment: str = "",
    ) -> None:
        """`environment` names a variable that gives the value of a text that was not given."""
        self.name = name
        self.kind = kind
        self.help = help
        self.short = short
        self.default = default
        self.group = group
        self.api = api
        self.unsupported = unsupported
        self.environment = environment

    @property
    def title(self) -> str:
        """How messages name it: `-m, --memory`."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"

    def initial(self) -> object:
        """The value of a flag that was not given."""
        if self.default is not None:
            return self.default
        if self.kind == "bool":
            return False
        if self.kind in LISTS:
            return []
        return os.environ.get(self.environment, "") if self.environment else ""


LISTS = (
    "list",
    "csv",
    "link",
    "env",
    "label",
    "attach",
    "ulimit",
    "sysctl",
    "map",
    "mount",
    "network",
    "filter",
    "device-rule",
    "ip",
    "domain",
    "host",
    "gpus",
    "rate-in-bytes",
    "rate",
    "weight",
)
"""Kinds that may be given again and again."""

SAME = {"net": "network", "net-alias": "network-alias", "dns-opt": "dns-option"}
"""Docker's older names of flags: they fill the same list, in the order of the command line."""


class Options:
    """What was given: `options["name"]` is the value, `name in options` tells whether it was given at all."""

    __slots__ = ("given", "values")

    def __init__(self, flags: Iterable[Flag]) -> None:
        self.values: dict[str, Any] = {flag.name: flag.initial() for flag in flags}
        self.given: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.given


def parse(flags: Sequence[Flag], words: list[str], *, interspersed: bool = True) -> tuple[Options, list[str]]:
    """Return the options and the arguments in `words`, or raise UsageError in Docker's words."""
    options = Options(flags)
    arguments: list[str] = []
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if word == "--":
            arguments += words[index:]
            break
        if len(word) < 2 or word[0] != "-":
            arguments.append(word)
            if not interspersed:
                arguments += words[index:]
                break
        elif word[1] == "-":
            index = _long(flags, options, words, index)
        else:
            index = _cluster(flags, options, words, index)
    return options, arguments


def _long(flags: Sequence[Flag], options: Options, words: list[str], index: int) -> int:
    """Take `--name`, and the next word if it is the value; return the index of what follows."""
    word = words[index - 1]
    name, equals, value = word[2:].partition("=")
    if not name or name[0] in "-=":
        raise UsageError(f"bad flag syntax: {word}")
    flag = next((f for f in flags if f.name == name), None) or _unknown_flag(flags, name, word)
    if not equals:
        if flag.kind in ("bool", "optional"):
            value = "true" if flag.kind == "bool" else "text"
        elif index < len(words):
            value = words[index]
            index += 1
        else:
            raise UsageError(f"flag needs an argument: --{name}")
    _set(flag, options, value)
    return index


def _cluster(flags: Sequence[Flag], options: Options, words: list[str], index: int) -> int:
    """Take `-it`, `-m512m`, `-m=512m` or `-m 512m`; return the index of what follows."""
    word = words[index - 1]
    rest = word[1:]
    while rest:
        letter, rest = rest[0], rest[1:]
        flag = next((f for f in flags if f.short == letter), None)
        if flag is None:
            if letter == "h":
                raise HelpAsked
            raise UsageError(f"unknown shorthand flag: {_rune(letter)} in -{letter}{rest}")
        if rest[:1] == "=" and len(rest) > 1:
            value, rest = rest[1:], ""
        elif flag.kind == "bool":
            value = "true"
        elif rest:
            value, rest = rest, ""
        elif index < len(words):
            value = words[index]
            index += 1
        else:
            raise UsageError(f"flag needs an argument: {_rune(letter)} in {word}")
        _set(flag, options, value)
    return index


class HelpAsked(Exception):
    """`--help` was given, or `-h` to a verb in which it means nothing else."""


def _unknown_flag(flags: Sequence[Flag], name: str, word: str) -> Flag:
    if name == "help":
        if word in ("--help", "--help=true"):
            raise HelpAsked
        if word == "--help=false":
            return Flag("help", "bool", "")
    from sampan.cli.nearest import nearest

    like = nearest(name, [f.name for f in flags])
    raise UsageError(f"unknown flag: --{name}", f"did you mean --{like}?" if like else "")


def _rune(letter: str) -> str:
    return "'" + letter + "'"


def _set(flag: Flag, options: Options, text: str) -> None:
    """Convert and store one value."""
    value = convert(flag, text)
    if flag.unsupported is not None and value != flag.default:
        raise Unavailable(f"--{flag.name} is unsupported", flag.unsupported)
    name = SAME.get(flag.name, flag.name)
    if flag.kind in LISTS:
        if name not in options.given:
            options.values[name] = []
        options.values[name] += value if flag.kind == "csv" else [value]
    else:
        options.values[name] = value
    options.given.add(name)


def convert(flag: Flag, text: str) -> object:
    """Return the value of `text`, or raise UsageError as Docker words it."""
    kind = flag.kind
    if kind in ("string", "list", "optional"):
        return text
    reader = KINDS.get(kind)
    if reader is None:
        from sampan.cli.values import READERS

        reader = READERS.get(kind)
    if reader is None:
        from sampan.cli.values_rare import READERS as RARE

        reader = RARE[kind]
    try:
        return reader(text)
    except ValueError as e:
        raise UsageError(f'invalid argument {quoted(text)} for "{flag.title}" flag: {e}') from None


def parse_bool(text: str) -> bool:
    """Read what Go's ParseBool reads."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax")


def parse_int(text: str) -> int:
    """Read a 64-bit number as Go's ParseInt with base 0 does: 10, -1, 0x1f, 0o17, 1_000."""
    try:
        number = int(text, 0) if text == text.strip() else int("x")
    except ValueError:
        if not text.lstrip("+-").isdigit() or not text.isascii():
            raise ValueError(f"strconv.ParseInt: parsing {quoted(text)}: invalid syntax") from None
        number = int(text, 8)  # 017 is octal to Go, and an error to Python
    if not -_INT64 <= number < _INT64:
        raise ValueError(f"strconv.ParseInt: parsing {quoted(text)}: value out of range")
    return number


def _environment(text: str) -> str:
    """`NAME=value`, or `NAME`: this process's own value, if it has one."""
    if not text or text[0] == "=":
        raise ValueError(f"invalid environment variable: {text}")
    return text


KINDS: dict[str, Callable[[str], object]] = {"bool": parse_bool, "int": parse_int, "env": _environment}
"""The readers that nearly every start needs; the others are in cli/values, imported when one is."""
