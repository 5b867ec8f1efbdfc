"""From a stage's instructions to its steps: everything is substituted, and the configuration is told around each. Pure.

A stage is resolved when what it stands on is known: an image's configuration or the scope that another stage ended
with. Its ONBUILD triggers come first.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, assert_never, cast

import msgspec

from sampan.build import configuration, mounts
from sampan.build.dockerfile import ast, expand, parse_instructions, words
from sampan.build.dockerfile.errors import DockerfileError, Fault
from sampan.build.dockerfile.heredoc import run_arguments
from sampan.build.dockerfile.mounts import parse_mount
from sampan.build.dockerfile.words import Lexer
from sampan.spec.build import (
    PIPES,
    Add,
    Copy,
    InlineFile,
    Location,
    Mount,
    NoFiles,
    Op,
    Origin,
    OriginKind,
    Remote,
    Run,
    Step,
    Workdir,
)
from sampan.spec.defaults.paths import DEFAULT_PATH
from sampan.spec.image import ExecutionConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.build.dockerfile.ast import Heredoc, Instruction
    from sampan.build.graph import Graph, Stage

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
_SCP = re.compile(r"[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:.*", re.DOTALL)
_GIT_OVER_HTTP = re.compile(r"https?://[^?#]*\.git(?:[?#].*)?", re.DOTALL)
_SYMBOLIC_MODE = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*")


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What is in reach at a point of a stage: at its beginning, or at its end for the stages that stand on it.

    `variables` are the environment and the ARGs, as substitution and RUN see them; `arguments` the ARGs alone, in the
    order in which they were declared, None without a value.
    """

    config: ExecutionConfig
    variables: dict[str, str]
    arguments: dict[str, str | None] = {}
    author: str = ""

    @classmethod
    def of_image(cls, config: ExecutionConfig, author: str = "") -> Scope:
        """What FROM an image begins with. There is always a PATH."""
        variables = dict(each.partition("=")[::2] for each in config.env or ())
        if "PATH" not in variables:
            config = msgspec.structs.replace(config, env=(*(config.env or ()), f"PATH={DEFAULT_PATH}"))
            variables["PATH"] = DEFAULT_PATH
        if config.working_dir:
            config = msgspec.structs.replace(config, working_dir=configuration.absolute("/", config.working_dir))
        return cls(config=config, variables=variables, author=author)

    @classmethod
    def of_nothing(cls) -> Scope:
        """What FROM scratch begins with."""
        return cls.of_image(ExecutionConfig(working_dir="/"))


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """A stage's steps, how many of them progress counts (with FROM of an image), and the scope at its end.

    Triggers may have found new `needs`: stages that must be built before the steps that take files from them.
    """

    steps: tuple[Step, ...]
    total: int
    end: Scope
    needs: frozenset[int] = frozenset()


def resolve(graph: Graph, stage: Stage, base: Scope, args: Mapping[str, str]) -> Resolved:
    """Make the steps of a stage. `args` are the request's. Raises DockerfileError that shows the lines."""
    triggers = base.config.on_build or ()
    begin = msgspec.structs.replace(base, config=msgspec.structs.replace(base.config, on_build=None))
    walk = _Walk(graph, stage, begin, args)
    for trigger in triggers:
        walk.trigger(trigger)
    for instruction in stage.instructions:
        walk.instruction(instruction, onbuild=False)
    return walk.resolved()


def classify(source: str) -> str | Remote:
    """Tell what a source of ADD is: a path, an URL or a git repository, by BuildKit's rules (util/gitutil)."""
    if source.startswith(("git://", "ssh://")) or _SCP.fullmatch(source) or _GIT_OVER_HTTP.fullmatch(source):
        return Remote(kind="git", value=source)
    return Remote(kind="url", value=source) if source.startswith(("http://", "https://")) else source


class _Walk:
    """One pass over a stage."""

    def __init__(self, graph: Graph, stage: Stage, begin: Scope, args: Mapping[str, str]) -> None:
        self.graph, self.stage, self.args = graph, stage, args
        self.escape = graph.dockerfile.escape
        self.config = begin.config
        self.variables = dict(begin.variables)
        self.arguments = dict(begin.arguments)
        self.author = begin.author
        self.steps: list[Step] = []
        self.number = self.total = 0 if stage.base.kind in (OriginKind.SCRATCH, OriginKind.STAGE) else 1
        self.has_command = False

    def resolved(self) -> Resolved:
        end = Scope(config=self.config, variables=self.variables, arguments=self.arguments, author=self.author)
        needs = frozenset(origin.stage for step in self.steps for origin in origins(step.op) if origin.stage >= 0)
        return Resolved(steps=tuple(self.steps), total=self.total, end=end, needs=needs)

    def trigger(self, text: str) -> None:
        """Perform one ONBUILD of the base; its faults are shown at FROM."""
        try:
            (instruction,) = parse_instructions(text, "ONBUILD")
        except (DockerfileError, ValueError) as e:
            cause = e.cause if isinstance(e, DockerfileError) else "onbuild trigger should be a single expression"
            raise self.graph.error(Fault(f"ONBUILD {text}: {cause}"), self.stage.location) from e
        if isinstance(instruction, ast.From | ast.OnBuild | ast.Maintainer):
            fault = Fault(f"{instruction.name} isn't allowed as an ONBUILD trigger")
            raise self.graph.error(fault, self.stage.location)
        located = msgspec.structs.replace(instruction, location=self.stage.location)
        self.instruction(located, onbuild=True)

    def instruction(self, instruction: Instruction, *, onbuild: bool) -> None:
        try:
            self.steps.append(self._step(instruction, onbuild=onbuild))
        except Fault as fault:
            raise self.graph.error(fault, instruction.location) from fault

    def _step(self, written: Instruction, *, onbuild: bool) -> Step:
        before, shown = self.config, self._shown(written)
        op: Op
        if isinstance(written, ast.Arg):
            op, history = self._arg(written)
        else:
            instruction = expand(written, self.variables, self.escape)
            self._configure(instruction)
            op, history = self._op(instruction)
        if not isinstance(op, NoFiles):
            self.total += 1
            self.number += op != Workdir(path="/", user=self.config.user or "")
        return Step(
            number=self.number,
            stage=self.stage.index,
            location=Location(written.location.start, written.location.end),
            text=f"ONBUILD {shown}" if onbuild else shown,
            written=written.text.strip(),
            created_by=history,
            before=before,
            after=self.config,
            op=op,
            args=self._arguments() if isinstance(op, Run) else (),
            author=self.author,
            onbuild=onbuild,
        )

    def _configure(self, instruction: Instruction) -> None:
        self.config = configuration.apply(self.config, instruction, keeps_command=self.has_command)
        if isinstance(instruction, ast.Env):
            for pair in instruction.pairs:
                self._set(pair.name, pair.value)
        elif isinstance(instruction, ast.Cmd):
            self.has_command = True
        elif isinstance(instruction, ast.Maintainer):
            self.author = instruction.author

    def _op(self, instruction: Instruction) -> tuple[Op, str]:
        match instruction:
            case ast.Run():
                return self._run(instruction)
            case ast.Copy():
                return self._copy(instruction)
            case ast.Add():
                return self._add(instruction)
            case ast.Workdir():
                assert self.config.working_dir
                op = Workdir(path=self.config.working_dir, user=self.config.user or "")
                return op, configuration.created_by(instruction, self.config)
            case _:
                return NoFiles(), configuration.created_by(instruction, self.config)

    def _set(self, name: str, value: str) -> None:
        # What is set anew comes last: so it is in BuildKit's list of variables.
        self.variables.pop(name, None)
        self.variables[name] = value

    # -------------------------------------------------------------------------------------------------------- ARG

    def _arg(self, instruction: ast.Arg) -> tuple[NoFiles, str]:
        said = []
        for argument in instruction.arguments:
            value = self.args.get(argument.name)
            if value is None and argument.value is not None:
                value = Lexer(escape=self.escape).process(argument.value, self.variables).text
            elif value is None:
                value = self.graph.arguments.get(argument.name)
            if value is not None:
                self._set(argument.name, value)
            self.arguments.setdefault(argument.name, None)
            self.arguments[argument.name] = value
            said.append(argument.name if value is None else f"{argument.name}={value}")
        return NoFiles(), f"ARG {' '.join(said)}"

    def _arguments(self) -> tuple[str, ...]:
        return tuple(f"{name}={self.variables.get(name, value or '')}" for name, value in self.arguments.items())

    # -------------------------------------------------------------------------------------------------------- RUN

    def _run(self, run: ast.Run) -> tuple[Run, str]:
        shell = self.config.shell or configuration.SHELL
        argv, script = run_arguments(run, shell)
        files: tuple[InlineFile, ...] = ()
        if script is not None:
            argv = (*shell, f"{PIPES}/{script.name}")
            files = (InlineFile(name=script.name, text=script.text),)
        arguments = self._arguments()
        counted = (f"|{len(arguments)}", *arguments) if arguments else ()
        op = Run(
            argv=argv,
            env=tuple(f"{name}={value}" for name, value in self.variables.items()),
            user=self.config.user or "",
            workdir=self.config.working_dir or "/",
            mounts=tuple(self._mount(text) for text in run.mounts),
            files=files,
            network=cast("Literal['default', 'none', 'host']", run.network),
            security=cast("Literal['sandbox', 'insecure']", run.security),
            proxy=tuple(_proxies(self.args)),
        )
        return op, " ".join(("RUN", *counted, *argv, "# buildkit"))

    def _mount(self, text: str) -> Mount:
        written = parse_mount(text, lambda value: words.expand(value, self.variables, self.escape))
        return mounts.mount(written, self.config.working_dir or "/", self._from)

    def _from(self, name: str) -> Origin:
        return self.graph.origin(name, self.stage)

    # ------------------------------------------------------------------------------------------------ COPY and ADD

    def _copy(self, copy: ast.Copy) -> tuple[Copy, str]:
        for source in copy.sources:
            found = classify(source)
            if isinstance(found, Remote):
                what = "a git ref" if found.kind == "git" else "a URL"
                raise Fault(f"source can't be {what} for COPY", source, "ADD takes such")
        _check_mode(copy.chmod)
        op = Copy(
            destination=_destination(self.config.working_dir or "/", copy.destination),
            origin=self._from(copy.from_) if copy.from_ else Origin(),
            inline=_inline(copy.inline),
            owner=copy.chown,
            mode=copy.chmod,
            link=copy.link,
            parents=copy.parents,
            exclude=copy.exclude,
            sources=copy.sources,
        )
        return op, _copied(copy, parents=copy.parents)

    def _add(self, add: ast.Add) -> tuple[Add, str]:
        sources = tuple(classify(source) for source in add.sources)
        _check_mode(add.chmod)
        if add.checksum:
            if len(sources) != 1:
                raise Fault("checksum can't be specified for multiple sources", "--checksum")
            if not isinstance(sources[0], Remote):
                raise Fault("checksum requires HTTP(S) or Git sources", "--checksum")
        op = Add(
            destination=_destination(self.config.working_dir or "/", add.destination),
            inline=_inline(add.inline),
            owner=add.chown,
            mode=add.chmod,
            link=add.link,
            exclude=add.exclude,
            sources=sources,
            checksum=add.checksum,
            keep_git_dir=add.keep_git_dir,
            unpack=add.unpack,
        )
        return op, _copied(add, parents=False)

    # ------------------------------------------------------------------------------------------------------- shown

    def _shown(self, instruction: Instruction) -> str:
        """The instruction in one line, as progress has it: with its values where it makes files; a RUN keeps quotes."""
        text = instruction.text.strip()
        if isinstance(instruction, ast.Run) and len(instruction.heredocs) == 1:
            first, *more = instruction.heredocs[0].text.strip().split("\n")
            text += f" ({first.rstrip()}{'...' if more else ''})"
        if isinstance(instruction, ast.Run | ast.Copy | ast.Add | ast.Workdir):
            is_run = isinstance(instruction, ast.Run)
            lexer = Lexer(escape=self.escape, keep_quotes=is_run, keep_unset=is_run)
            with suppress(Fault):  # what is no word of a Dockerfile's may be one of the shell's
                text = lexer.process(text, self.variables).text
        keyword, blank, rest = text.partition(" ")
        return f"{keyword.upper()}{blank}{rest}"


def origins(op: Op) -> Iterator[Origin]:
    """Where a step takes files from."""
    match op:
        case Run(mounts=mounts):
            for mount in mounts:
                origin = getattr(mount, "origin", None)
                if origin is not None:
                    yield origin
        case Copy(origin=origin) | Add(origin=origin):
            yield origin
        case Workdir() | NoFiles():
            return
        case _:
            assert_never(op)


def _copied(instruction: ast.Copy | ast.Add, *, parents: bool) -> str:
    options = ["--parents"] if parents else []
    options += [f"--chown={instruction.chown}"] if instruction.chown else []
    options += [f"--chmod={instruction.chmod}"] if instruction.chmod else []
    inline = [f"<<{each.name}" for each in instruction.inline]
    words = (instruction.name, *options, *instruction.sources, *inline, instruction.destination, "# buildkit")
    return " ".join(words)


def _destination(workdir: str, path: str) -> str:
    """Make a destination absolute; it keeps the slash that says it is a directory."""
    is_directory = path in ("", ".") or path.endswith(("/", "/."))
    clean = configuration.absolute(workdir, path)
    return clean if clean == "/" or not is_directory else f"{clean}/"


def _inline(heredocs: tuple[Heredoc, ...]) -> tuple[InlineFile, ...]:
    return tuple(InlineFile(name=each.name, text=each.text, mode=0o644) for each in heredocs)


def _check_mode(mode: str) -> None:
    octal = mode.isascii() and mode.isdigit()
    if octal and (not set(mode) <= set("01234567") or int(mode, 8) > 0o7777):
        raise Fault(f"invalid chmod parameter: '{mode}'. it should be octal string and between 0 and 07777", mode)
    if mode and not octal and not _SYMBOLIC_MODE.fullmatch(mode):
        raise Fault(f"invalid chmod parameter: '{mode}'", mode, "like 0755, u+x or go-w")


def _proxies(args: Mapping[str, str]) -> Iterator[str]:
    """The proxies of --build-arg that a RUN gets without an ARG, in both spellings."""
    given = {name.lower(): value for name, value in sorted(args.items()) if name.lower() in _PROXIES}
    for name, value in given.items():
        yield f"{name.upper()}={value}"
        yield f"{name}={value}"
