"""A syntax tree to text again: what it gives parses to the same tree, and rendering that gives the same text."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from sampan.build.dockerfile import ast
from sampan.build.dockerfile.errors import Fault
from sampan.build.dockerfile.flags import json_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PLAIN_OPTION = re.compile(r"[^\s'\"\\]*")


def render(dockerfile: ast.Dockerfile) -> str:
    """Return the whole file: directives, comments, instructions with one line each, heredocs."""
    lines = [f"# {each.name}={each.value}" for each in dockerfile.directives]
    for argument in dockerfile.args:
        lines += [*argument.comments, render_instruction(argument, dockerfile.escape)]
    for stage in dockerfile.stages:
        for instruction in (stage.base, *stage.instructions):
            lines += [*instruction.comments, render_instruction(instruction, dockerfile.escape)]
    lines += dockerfile.comments
    return "\n".join(lines) + "\n"


def render_instruction(instruction: ast.Instruction, escape: str = "\\") -> str:
    """Return one instruction without its comments, with its heredocs' documents."""
    line = _line(instruction)
    if line.endswith(escape) and not line.endswith(escape * 2):
        line += "\v"  # a blank to the language, but none after which an escape character continues a line
    return "".join([line, *(f"\n{each.content}{each.name}" for each in _heredocs(instruction))])


def _heredocs(instruction: ast.Instruction) -> tuple[ast.Heredoc, ...]:
    match instruction:
        case ast.Run():
            return instruction.heredocs
        case ast.Copy() | ast.Add():
            return instruction.inline
        case ast.OnBuild():
            return _heredocs(instruction.instruction)
        case _:
            return ()


def _line(instruction: ast.Instruction) -> str:
    rest = _rest(instruction)
    end = "--" if rest.startswith("--") else ""  # what follows is no option
    words = [instruction.name, *(_option(*each) for each in _options(instruction)), end, rest]
    return " ".join(word for word in words if word)


_Option = tuple[str, str | bool]


def _options(instruction: ast.Instruction) -> list[_Option]:
    match instruction:
        case ast.From():
            return _given(platform=instruction.platform)
        case ast.Run():
            network, security = instruction.network, instruction.security
            return [
                *(("mount", each) for each in instruction.mounts),
                *_given(network=network if network != "default" else ""),
                *_given(security=security if security != "sandbox" else ""),
                *(("device", each) for each in instruction.devices),
            ]
        case ast.Copy():
            before, after = _given(**{"from": instruction.from_}), _given(parents=instruction.parents)
            return [*before, *_file_options(instruction), *after]
        case ast.Add():
            unpack = "false" if instruction.unpack is False else bool(instruction.unpack)
            given: dict[str, str | bool] = {
                "keep-git-dir": instruction.keep_git_dir,
                "checksum": instruction.checksum,
                "unpack": unpack,
            }
            return [*_file_options(instruction), *_given(**given)]
        case ast.Healthcheck(check=check):
            times = {
                "interval": check.interval,
                "timeout": check.timeout,
                "start-period": check.start_period,
                "start-interval": check.start_interval,
            }
            durations = {name: _duration(ns) if ns else "" for name, ns in times.items()}
            return _given(**durations, retries=str(check.retries or ""))
        case _:
            return []


def _file_options(instruction: ast.Copy | ast.Add) -> list[_Option]:
    given = _given(chown=instruction.chown, chmod=instruction.chmod, link=instruction.link)
    return [*given, *(("exclude", each) for each in instruction.exclude)]


def _given(**options: str | bool) -> list[_Option]:
    """Leave out those that are as if they weren't there."""
    return [(name, value) for name, value in options.items() if value]


def _option(name: str, value: str | bool) -> str:
    if value is True:
        return f"--{name}"
    text = str(value)
    if not _PLAIN_OPTION.fullmatch(text):
        text = '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
    return f"--{name}={text}"


def _rest(instruction: ast.Instruction) -> str:
    match instruction:
        case ast.From():
            name = f" {instruction.as_keyword or 'AS'} {instruction.stage_as_written}" if instruction.stage else ""
            return instruction.image + name
        case ast.Arg():
            return " ".join(
                each.name if each.value is None else f"{each.name}={each.value}" for each in instruction.arguments
            )
        case ast.Env() | ast.Label():
            return " ".join(f"{each.name}{' ' if each.legacy else '='}{each.value}" for each in instruction.pairs)
        case ast.Run() | ast.Cmd() | ast.Entrypoint():
            return _command(instruction.command)
        case ast.Copy() | ast.Add():
            return _files(instruction)
        case ast.Expose():
            return " ".join(instruction.ports)
        case ast.Volume():
            return _json(instruction.paths) if instruction.json else _list(instruction.paths)
        case ast.Healthcheck():
            return _health(instruction.check.test or ())
        case ast.OnBuild():
            return _line(instruction.instruction)
        case _:
            return _single(instruction)


def _single(instruction: ast.Instruction) -> str:
    match instruction:
        case ast.Workdir():
            return instruction.path
        case ast.User():
            return instruction.user
        case ast.StopSignal():
            return instruction.signal
        case ast.Maintainer():
            return instruction.author
        case ast.Shell():
            return _json(instruction.words)
        case _:
            raise TypeError(f"no instruction: {type(instruction).__name__}")


def _duration(ns: int) -> str:
    for unit, length in (("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)):
        if ns % length == 0:
            return f"{ns // length}{unit}"
    return f"{ns}ns"


def _command(command: ast.Command) -> str:
    return " ".join(command.words) if command.is_shell else _json(command.words)


def _files(instruction: ast.Copy | ast.Add) -> str:
    if instruction.json:
        return _json((*instruction.sources, instruction.destination))
    # They come first: a lone quote in a word before one would make it a part of that word.
    opened = (f"{each.file_descriptor or ''}<<{'-' if each.chomp else ''}{each.word}" for each in instruction.inline)
    return _list([*opened, *instruction.sources, instruction.destination])


def _list(words: Sequence[str]) -> str:
    """Put blanks between words that must not become the JSON form, which a vertical tab can't be in."""
    text = " ".join(words)
    try:
        return text if json_words(text) is None else "\v".join(words)
    except Fault:
        return "\v".join(words)


def _health(test: tuple[str, ...]) -> str:
    match test:
        case ("CMD-SHELL", command):
            return f"CMD {command}"
        case ("CMD", *words):
            return f"CMD {_json(words)}"
        case _:
            return "NONE"


def _json(words: Iterable[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)
