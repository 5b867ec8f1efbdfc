"""Apply Dockerfile instructions to an image's configuration: `--change` of import (and commit). Pure.

The forms are the Dockerfile reference's: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER,
VOLUME, WORKDIR. Variables of the image's environment are replaced where a Dockerfile has them replaced. Docker itself
knows no STOPSIGNAL here, Podman no HEALTHCHECK.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from sampan.errors import InvalidInput, SampanError
from sampan.spec.document import UNREADABLE
from sampan.spec.image import ExecutionConfig, HealthCheck
from sampan.units import parse_duration, parse_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::([-+])([^}]*))?\}|(\w+))")
_CONTINUED = re.compile(r"\\[ \t]*\n")


def apply(config: ExecutionConfig, changes: Iterable[str]) -> ExecutionConfig:
    """Return the configuration after the instructions, one or several lines each. Raises InvalidInput with the line.

    An ENTRYPOINT does away with the command of before, unless a CMD is among the changes: it was for another program.
    """
    cmd_given = False
    for line in (line.strip() for line in _CONTINUED.sub("", "\n".join(changes)).splitlines()):
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        instruction = _INSTRUCTIONS.get(word.upper())
        if instruction is None:
            raise InvalidInput(f"can't apply {line!r}: {word} is not a valid change command", f"one of: {_NAMES}")
        if not rest.strip():
            raise InvalidInput(f"can't apply {line!r}: {word.upper()} requires at least one argument")
        try:
            config = instruction(config, rest.strip())
        except SampanError as e:
            raise InvalidInput(f"can't apply {line!r}: {e.message}", e.hint) from e
        cmd_given = cmd_given or instruction is _cmd
        if instruction is _entrypoint and not cmd_given:
            config = replace(config, cmd=None)
    return config


def _cmd(config: ExecutionConfig, text: str) -> ExecutionConfig:
    return replace(config, cmd=_command(config, text))


def _entrypoint(config: ExecutionConfig, text: str) -> ExecutionConfig:
    return replace(config, entrypoint=_command(config, text))


def _env(config: ExecutionConfig, text: str) -> ExecutionConfig:
    variables = _variables(config)
    variables.update(_pairs(config, text))
    return replace(config, env=tuple(f"{key}={value}" for key, value in variables.items()))


def _label(config: ExecutionConfig, text: str) -> ExecutionConfig:
    return replace(config, labels={**(config.labels or {}), **dict(_pairs(config, text))})


def _expose(config: ExecutionConfig, text: str) -> ExecutionConfig:
    ports = dict(config.exposed_ports or {})
    for word in _words(config, text):
        match = _PORT.fullmatch(word)
        if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]) < 65536:
            raise InvalidInput(f"invalid containerPort: {word}", "like 80, 53/udp or 8000-8010")
        for port in range(int(match[1]), int(match[2] or match[1]) + 1):
            ports[f"{port}/{(match[3] or 'tcp').lower()}"] = {}
    return replace(config, exposed_ports=ports)


def _user(config: ExecutionConfig, text: str) -> ExecutionConfig:
    return replace(config, user=_word(config, text))


def _volume(config: ExecutionConfig, text: str) -> ExecutionConfig:
    paths = _json(text)
    if paths is None:
        paths = tuple(_words(config, text))
    return replace(config, volumes={**(config.volumes or {}), **{path: {} for path in paths}})


def _workdir(config: ExecutionConfig, text: str) -> ExecutionConfig:
    return replace(
        config, working_dir=posixpath.normpath(posixpath.join(config.working_dir or "/", _word(config, text)))
    )


def _stopsignal(config: ExecutionConfig, text: str) -> ExecutionConfig:
    signal = _word(config, text)
    parse_signal(signal)
    return replace(config, stop_signal=signal)


def _onbuild(config: ExecutionConfig, text: str) -> ExecutionConfig:
    word = text.partition(" ")[0].upper()
    if word in {"ONBUILD", "FROM", "MAINTAINER"}:
        raise InvalidInput(f"{word} isn't allowed as an ONBUILD trigger")
    return replace(config, on_build=(*(config.on_build or ()), text))


def _healthcheck(config: ExecutionConfig, text: str) -> ExecutionConfig:
    check: dict[str, int] = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        name, _, value = option[2:].partition("=")
        key = name.replace("-", "_")
        if key == "retries":
            if not value.isdigit():
                raise InvalidInput(f"--retries must be a number, not {value!r}")
            check[key] = int(value)
        elif key in {"interval", "timeout", "start_period", "start_interval"}:
            check[key] = parse_duration(value)
        else:
            raise InvalidInput(f"unknown flag: {option}")
        text = text.strip()
    word, _, command = text.partition(" ")
    if word.upper() == "NONE" and not command:
        return replace(config, healthcheck=HealthCheck(test=("NONE",)))
    if word.upper() != "CMD" or not command.strip():
        raise InvalidInput("it reads HEALTHCHECK [options] CMD command, or HEALTHCHECK NONE")
    words = _json(command.strip())
    test = ("CMD", *words) if words is not None else ("CMD-SHELL", command.strip())
    return replace(config, healthcheck=HealthCheck(test=test, **check))


def _command(config: ExecutionConfig, text: str) -> tuple[str, ...]:
    words = _json(text)
    return words if words is not None else (*(config.shell or _SHELL), text)


def _json(text: str) -> tuple[str, ...] | None:
    """The words of the JSON form, None where it is not in that form: then it is for the shell, as in Docker."""
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except UNREADABLE:
        return None


def _pairs(config: ExecutionConfig, text: str) -> list[tuple[str, str]]:
    """`key=value …`, or the old form of one `key value`."""
    words = _words(config, text)
    if "=" not in words[0]:
        key, _, value = text.partition(" ")
        if not value.strip():
            raise InvalidInput(f"{key} must be followed by = and a value")
        return [(key, _word(config, value.strip()))]
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InvalidInput(f"{word!r} is not of the form name=value")
        pairs.append((key, value))
    return pairs


def _words(config: ExecutionConfig, text: str) -> list[str]:
    """Split at blanks outside quotes."""
    words: list[str] = []
    word: list[str] | None = None
    for piece in _pieces(text, _variables(config)):
        if piece is not None:
            word = [*(word or ()), piece]
        elif word is not None:
            words.append("".join(word))
            word = None
    return words if word is None else [*words, "".join(word)]


def _word(config: ExecutionConfig, text: str) -> str:
    """Take quotes away and replace variables, but keep blanks."""
    return "".join(" " if piece is None else piece for piece in _pieces(text, _variables(config)))


def _pieces(text: str, variables: dict[str, str]) -> Iterator[str | None]:
    """Give the text in pieces, None for a blank outside quotes.

    A backslash keeps the next character, and variables are replaced; inside single quotes both are themselves.
    """
    quote = ""
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "\\" and quote != "'":
            yield text[at : at + 1] or "\\"
            at += 1
        elif character == "$" and quote != "'" and (match := _VARIABLE.match(text, at - 1)):
            yield _value(match, variables)
            at = match.end()
        elif character == quote:
            quote = ""
        elif character in "'\"" and not quote:
            quote = character
            yield ""
        else:
            yield None if character.isspace() and not quote else character
    if quote:
        raise InvalidInput(f"a {quote} is not closed")


def _value(match: re.Match[str], variables: dict[str, str]) -> str:
    value = variables.get(match[1] or match[4], "")
    if match[2] == "-":
        return value or match[3]
    return (match[3] if value else "") if match[2] == "+" else value


def _variables(config: ExecutionConfig) -> dict[str, str]:
    return dict(variable.partition("=")[::2] for variable in config.env or ())


_INSTRUCTIONS: dict[str, Callable[[ExecutionConfig, str], ExecutionConfig]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
_NAMES = " ".join(_INSTRUCTIONS)
