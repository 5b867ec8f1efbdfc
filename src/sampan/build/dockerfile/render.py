"""A syntax tree to text again: what it gives parses to the same tree, and rendering that gives the same text."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from sampan.build.dockerfile import ast

if TYPE_CHECKING:
    from collections.abc import Iterable

_PLAIN_OPTION = re.compile(r"[^\s'\"\\]*")


def render(dockerfile: ast.Dockerfile) -> str:
    """Return the whole file: directives, comments, instructions with one line each, heredocs."""
    lines = [f"# {each.name}={each.value}" for each in dockerfile.directives]
    for argument in dockerfile.args:
        lines += [*argument.comments, render_instruction(argument)]
    for stage in dockerfile.stages:
        for instruction in (stage.base, *stage.instructions):
            lines += [*instruction.comments, render_instruction(instruction)]
    lines += dockerfile.comments
    return "\n".join(lines) + "\n"


def render_instruction(instruction: ast.Instruction) -> str:
    """Return one instruction without its comments, with its heredocs' documents."""
    return "".join([_line(instruction), *(f"\n{each.content}{each.name}" for each in _heredocs(instruction))])


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
    words = [instruction.name, *(_option(*each) for each in _options(instruction)), _rest(instruction)]
    return " ".join(word for word in words if word)


def _options(instruction: ast.Instruction) -> list[tuple[str, str | bool]]:
    match instruction:
        case ast.From():
            options: list[tuple[str, str | bool | None]] = [("platform", instruction.platform)]
        case ast.Run():
            options = [
                *(("mount", each) for each in instruction.mounts),
                ("network", instruction.network if instruction.network != "default" else ""),
                ("security", instruction.security if instruction.security != "sandbox" else ""),
                *(("device", each) for each in instruction.devices),
            ]
        case ast.Copy():
            options = [("from", instruction.from_), *_file_options(instruction), ("parents", instruction.parents)]
        case ast.Add():
            options = [
                *_file_options(instruction),
                ("keep-git-dir", instruction.keep_git_dir),
                ("checksum", instruction.checksum),
                ("unpack", "false" if instruction.unpack is False else instruction.unpack),
            ]
        case ast.Healthcheck():
            check = instruction.check
            intervals = [
                ("interval", check.interval),
                ("timeout", check.timeout),
                ("start-period", check.start_period),
                ("start-interval", check.start_interval),
            ]
            options = [(name, _duration(ns)) for name, ns in intervals if ns]
            options.append(("retries", str(check.retries or "")))
        case _:
            options = []
    return [(name, value) for name, value in options if value]


def _file_options(instruction: ast.Copy | ast.Add) -> list[tuple[str, str | bool | None]]:
    return [
        ("chown", instruction.chown),
        ("chmod", instruction.chmod),
        ("link", instruction.link),
        *(("exclude", each) for each in instruction.exclude),
    ]


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
            return _json(instruction.paths) if instruction.json else " ".join(instruction.paths)
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
    opened = (f"<<{'-' if each.chomp else ''}{each.word}" for each in instruction.inline)
    return " ".join([*instruction.sources, *opened, instruction.destination])


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
