"""What an instruction makes of an image's configuration, and what history says of it. Pure.

Instructions are those of which every word is substituted: `dockerfile.expand` has been there. History is written as
BuildKit's frontend writes it, which is how Go prints these values.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.build.dockerfile import ast
from sampan.build.dockerfile.errors import Fault
from sampan.build.dockerfile.text import go_quoted, go_quoted_character
from sampan.errors import InvalidInput
from sampan.units import parse_signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.build.dockerfile.ast import Command, Instruction
    from sampan.spec.image import ExecutionConfig, HealthCheck

SHELL = ("/bin/sh", "-c")
_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_UNITS = ((1, "ns"), (1_000, "µs"), (1_000_000, "ms"), (10**9, "s"))


def apply(config: ExecutionConfig, instruction: Instruction, *, keeps_command: bool = False) -> ExecutionConfig:
    """Return the configuration after an instruction; those that only make files leave it as it is. Raises Fault.

    ENTRYPOINT does away with the command of before, which was for another program, unless `keeps_command`: there was
    a CMD in the same stage.
    """
    match instruction:
        case ast.Env(pairs=pairs):
            return replace(config, env=with_variables(config.env or (), ((pair.name, pair.value) for pair in pairs)))
        case ast.Label(pairs=pairs):
            return replace(config, labels={**(config.labels or {}), **{pair.name: pair.value for pair in pairs}})
        case ast.Expose(ports=ports):
            exposed: dict[str, dict[str, str]] = {port: {} for port in exposed_ports(ports)}
            return replace(config, exposed_ports={**(config.exposed_ports or {}), **exposed} or None)
        case ast.Volume(paths=paths):
            if "" in paths:
                raise Fault("VOLUME specified can not be an empty string")
            volumes: dict[str, dict[str, str]] = {path: {} for path in paths}
            return replace(config, volumes={**(config.volumes or {}), **volumes})
        case ast.User(user=user):
            return replace(config, user=user)
        case ast.Workdir(path=path):
            return replace(config, working_dir=absolute(config.working_dir, path))
        case ast.Cmd(command=command):
            return replace(config, cmd=_argv(config, command) or None, args_escaped=True)
        case ast.Entrypoint(command=command):
            entrypoint = _argv(config, command) or None
            return replace(config, entrypoint=entrypoint, cmd=config.cmd if keeps_command else None)
        case ast.Shell(words=words):
            return replace(config, shell=words)
        case ast.StopSignal(signal=signal):
            return replace(config, stop_signal=_signal(signal))
        case ast.Healthcheck(check=check):
            return replace(config, healthcheck=check)
        case ast.OnBuild(expression=expression):
            return replace(config, on_build=(*(config.on_build or ()), expression))
        case _:
            return config


def created_by(instruction: Instruction, after: ExecutionConfig) -> str:
    """Say in history what an instruction of the configuration did, `after` which it is so; "" for ONBUILD."""
    match instruction:
        case ast.Env(pairs=pairs) | ast.Label(pairs=pairs):
            return " ".join([instruction.name, *(f"{pair.name}={pair.value}" for pair in pairs)])
        case ast.Expose(ports=ports):
            return f"EXPOSE {_list(sorted(exposed_ports(ports)))}"
        case ast.Volume(paths=paths):
            return f"VOLUME {_list(paths)}"
        case ast.User(user=user):
            return f"USER {user}"
        case ast.Workdir():
            return f"WORKDIR {after.working_dir}"
        case ast.Cmd():
            return f"CMD {_quoted_list(after.cmd or ())}"
        case ast.Entrypoint():
            return f"ENTRYPOINT {_quoted_list(after.entrypoint or ())}"
        case ast.Shell(words=words):
            return f"SHELL {_list(words)}"
        case ast.StopSignal(signal=signal):
            return f"STOPSIGNAL {signal}"
        case ast.Healthcheck(check=check):
            return f"HEALTHCHECK {_health(check)}"
        case ast.Maintainer(author=author):
            return f"MAINTAINER {author}"
        case _:
            return ""


def with_variables(env: Sequence[str], pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Set variables of an environment, each where it was."""
    variables = dict(each.partition("=")[::2] for each in env)
    variables.update(pairs)
    return tuple(f"{name}={value}" for name, value in variables.items())


def absolute(directory: str | None, path: str) -> str:
    """The clean path that WORKDIR comes to."""
    joined = posixpath.normpath(posixpath.join("/", directory or "/", path))
    return "/" + joined.lstrip("/")  # POSIX leaves two slashes at a path's beginning alone


def exposed_ports(words: Iterable[str]) -> tuple[str, ...]:
    """Return `port/protocol` of each word of EXPOSE: 80, 53/udp, 8000-8010; a host's part is left out. Raises Fault."""
    return tuple(port for word in words for port in _ports(word))


def _ports(word: str) -> Iterable[str]:
    port, _, protocol = word.rpartition(":")[2].partition("/")
    protocol = protocol.lower() or "tcp"
    if not port:
        raise Fault(f"no port specified: {word}<empty>", word)
    if protocol not in _PROTOCOLS:
        raise Fault(f"invalid proto: {protocol}", word, "it is tcp, udp or sctp")
    first, dash, last = port.partition("-")
    numbers = (first, last if dash else first)
    if not all(number.isascii() and number.isdigit() and int(number[:6]) < 65536 for number in numbers):
        raise Fault(f"invalid containerPort: {port}", word, "like 80, 53/udp or 8000-8010")
    if int(numbers[1]) < int(numbers[0]):
        raise Fault(f"invalid containerPort: {port}", word, "the first of a range is the lower")
    return [f"{number}/{protocol}" for number in range(int(numbers[0]), int(numbers[1]) + 1)]


def _argv(config: ExecutionConfig, command: Command) -> tuple[str, ...]:
    return (*(config.shell or SHELL), " ".join(command.words)) if command.is_shell else command.words


def _signal(text: str) -> str:
    try:
        parse_signal(text)
    except InvalidInput as e:
        raise Fault(e.message, text, e.hint) from e
    return text


# --------------------------------------------------------------------------------------------- as Go prints values


def _list(words: Iterable[str]) -> str:
    return f"[{' '.join(words)}]"


def _quoted_list(words: Iterable[str]) -> str:
    return _list(go_quoted(word) for word in words)


def _health(check: HealthCheck) -> str:
    """A pointer to a structure as `%q` has it: a duration is a text, a number a character."""
    times = (check.interval, check.timeout, check.start_period, check.start_interval)
    words = [_quoted_list(check.test or ()), *(go_quoted(go_duration(ns)) for ns in times)]
    number = chr(check.retries) if check.retries < 0x110000 else "\ufffd"
    character = "'\\''" if number == "'" else "'\"'" if number == '"' else f"'{go_quoted_character(number)}'"
    return "&{" + " ".join([*words, character]) + "}"


def go_duration(ns: int) -> str:
    """Nanoseconds as Go prints them: 0s, 1.5s, 100ms, 1m30s, 2h0m0s."""
    if ns < 0:
        return f"-{go_duration(-ns)}"
    if ns < 10**9:
        size, unit = next(((s, u) for s, u in reversed(_UNITS[:3]) if ns >= s), (10**9, "s"))
        return f"{_fraction(ns, size)}{unit}"
    seconds, minutes = ns % (60 * 10**9), ns // (60 * 10**9)
    text = f"{_fraction(seconds, 10**9)}s"
    if minutes:
        text = f"{minutes % 60}m{text}"
    return f"{minutes // 60}h{text}" if minutes >= 60 else text


def _fraction(number: int, size: int) -> str:
    digits = len(str(size)) - 1
    return f"{number // size}.{number % size:0{digits}d}".rstrip("0").rstrip(".") if size > 1 else str(number)
