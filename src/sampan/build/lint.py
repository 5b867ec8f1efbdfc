"""Advice on a Dockerfile: what `--check` tells, and a build when it is done. Pure.

The rules and their order are BuildKit's (frontend/dockerfile/linter and dockerfile2llb): those that need only the text,
then stages and FROM, then each stage's instructions with the variables that are known there. What isn't known without
looking, base images and .dockerignore, comes in by `Surroundings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from sampan.build import configuration
from sampan.build.dockerfile import DockerfileError, Fault, ast, locate, words
from sampan.build.dockerfile.errors import excerpt, nearest, quoted
from sampan.build.dockerfile.expansion import expand_with
from sampan.build.dockerfile.mounts import parse_mount
from sampan.build.lint_rules import RULES, Choice, Rule, choice
from sampan.errors import InvalidInput
from sampan.spec.defaults.paths import DEFAULT_PATH
from sampan.spec.distribution import Platform
from sampan.spec.image import ExecutionConfig
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from sampan.build.dockerfile.ast import Dockerfile, Instruction, Location

_RESERVED = ("context", "scratch")
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_PUBLIC = re.compile(r"(?:_|^)public(?:_|$)", re.IGNORECASE)


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """What an image gives to the stages on it. Where it isn't `known`, nothing is said of what it might give."""

    known: bool = True
    config: ExecutionConfig = ExecutionConfig(env=(f"PATH={DEFAULT_PATH}",))
    platform: Platform | None = None


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a Dockerfile is looked over with.

    `arguments` are the build's, `predefined` the platform ARGs. `base` tells of an image that a FROM names (by its name
    and its platform, "" for the build's); `ignored` tells of a source of COPY whether .dockerignore leaves it out.
    """

    arguments: Mapping[str, str] = {}
    predefined: Mapping[str, str] = {}
    base: Callable[[str, str], Base] = lambda _image, _platform: Base()
    ignored: Callable[[str], bool] = lambda _path: False


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that a place goes against, and how. `source` shows the lines."""

    rule: Rule
    message: str
    location: ast.Location
    source: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, by line. `error` is what ended the look, or that the directive makes an error of advice."""

    violations: tuple[Violation, ...]
    error: InvalidInput | None = None


def lint(dockerfile: Dockerfile, around: Surroundings) -> Report:
    """Look a Dockerfile over. A fault in it is in the report, not raised."""
    try:
        # What is behind a blank doesn't count, as in BuildKit.
        chosen = choice((dockerfile.directive("check") or "").partition(" ")[0])
    except InvalidInput as e:
        return Report(violations=(), error=e)
    linter = _Linter(dockerfile, around, chosen)
    error: InvalidInput | None = None
    try:
        linter.run()
    except DockerfileError as e:
        error = e
    violations = tuple(sorted(linter.found, key=lambda each: each.location.start))
    if error is None and chosen.error and violations:
        names = ", ".join(sorted({each.rule.name for each in violations}))
        error = InvalidInput(
            f"lint violation found for rules: {names}", "the directive `# check=error=true` asks for this"
        )
    return Report(violations=violations, error=error)


class _Stage:
    """A stage while its instructions are looked at; one that another is built on gives it a copy."""

    def __init__(self, base: Base) -> None:
        self.known = base.known
        self.env = dict(each.partition("=")[::2] for each in base.config.env or ())
        self.declared: set[str] = set()
        self.has_shell = bool(base.config.shell) or not base.known
        self.has_workdir = False
        self.seen: dict[type[Instruction], Instruction] = {}

    def copy(self) -> _Stage:
        stage = _Stage(Base(known=self.known))
        stage.env, stage.declared = dict(self.env), set(self.declared)
        stage.has_shell, stage.has_workdir = self.has_shell, self.has_workdir
        return stage


class _Linter:
    def __init__(self, dockerfile: Dockerfile, around: Surroundings, chosen: Choice) -> None:
        self.dockerfile = dockerfile
        self.around = around
        self.chosen = chosen
        self.lines = dockerfile.source.split("\n")
        self.lexer = words.Lexer(escape=dockerfile.escape)
        self.found: list[Violation] = []
        self.instructions = [*dockerfile.args, *(i for s in dockerfile.stages for i in (s.base, *s.instructions))]
        self.globals: dict[str, str] = dict(around.predefined)
        self.stages: dict[str, _Stage] = {}

    def say(self, name: str, location: Location, message: str) -> None:
        rule = RULES[name]
        if self.chosen.has(rule):
            source = excerpt(self.lines, self.dockerfile.name, location)
            self.found.append(Violation(rule=rule, message=message, location=location, source=source))

    def run(self) -> None:
        for location in self.dockerfile.empty_continuations:
            self.say("NoEmptyContinuation", location, "Empty continuation line")
        self.texts()
        self.names()
        self.casing()
        self.global_arguments()
        for stage in self.dockerfile.stages:
            state = self.base(stage)
            if stage.name:
                self.stages[stage.name] = state
            for instruction in stage.instructions:
                try:
                    self.instruction(instruction, state)
                except Fault as fault:
                    raise locate(fault, self.dockerfile, instruction.location) from fault

    # ---------------------------------------------------------------------------------------------- the text alone

    def texts(self) -> None:
        for instruction in self.instructions:
            location = instruction.location
            match instruction:
                case ast.From():
                    self.stage_casing(instruction)
                    if instruction.stage:
                        self.description(instruction, (instruction.stage,), instruction.stage)
                case ast.Arg(arguments=arguments):
                    names = tuple(argument.name for argument in arguments)
                    self.description(instruction, names, names[0] if len(names) == 1 else "<arg_key>")
                case ast.Maintainer():
                    message = "Maintainer instruction is deprecated in favor of using label"
                    self.say("MaintainerDeprecated", location, message)
                case _:
                    pass

    def stage_casing(self, base: ast.From) -> None:
        keyword, as_keyword = base.keyword, base.as_keyword
        if base.stage != base.stage_as_written:
            message = f"Stage name '{base.stage_as_written}' should be lowercase"
            self.say("StageNameCasing", base.location, message)
        # A FROM in both cases is ConsistentInstructionCasing's.
        right = {keyword.islower(): as_keyword.islower(), keyword.isupper(): as_keyword.isupper()}.get(True, True)
        if as_keyword and not right:
            message = f"'{as_keyword}' and '{keyword}' keywords' casing do not match"
            self.say("FromAsCasing", base.location, message)

    def description(self, instruction: Instruction, names: tuple[str, ...], shown: str) -> None:
        comments: list[str] = []
        for row in instruction.comments:
            comment = row.lstrip("#").strip() if row else None
            if comment == "":
                comments = []  # a comment without text parts those before from the instruction
            elif comment:
                comments.append(comment)
        if comments and not any(comment.startswith(f"{name} ") for comment in comments for name in names):
            message = f"Comment for {instruction.name} should follow the format: `# {shown} <description>`"
            self.say("InvalidDefinitionDescription", instruction.location, message)

    def names(self) -> None:
        seen: set[str] = set()
        for stage in self.dockerfile.stages:
            name, location = stage.name, stage.base.location
            if name in _RESERVED:
                message = f"Stage name should not use the same name as reserved stage {quoted(name)}"
                self.say("ReservedStageName", location, message)
            if name in seen:
                message = f"Duplicate stage name {quoted(name)}, stage names should be unique"
                self.say("DuplicateStageName", location, message)
            if name:
                seen.add(name)

    def casing(self) -> None:
        # As in BuildKit, the ARGs before the first FROM are not looked at.
        instructions = self.instructions[len(self.dockerfile.args) :]
        keywords = [instruction.keyword for instruction in instructions]
        lower = sum(keyword.islower() for keyword in keywords) > sum(keyword.isupper() for keyword in keywords)
        right = "lowercase" if lower else "uppercase"
        for instruction in instructions:
            keyword = instruction.keyword
            if keyword != (keyword.lower() if lower else keyword.upper()):
                message = f"Command '{keyword}' should match the case of the command majority ({right})"
                self.say("ConsistentInstructionCasing", instruction.location, message)

    # --------------------------------------------------------------------------------------------------------- FROM

    def global_arguments(self) -> None:
        defaults = dict(self.around.predefined)
        for instruction in self.dockerfile.args:
            for argument in instruction.arguments:
                name, value = argument.name, argument.value
                given = self.around.arguments.get(name)
                self.globals[name] = self.value(value, self.globals, instruction) if given is None else given
                defaults[name] = self.value(value, defaults, instruction)
        for stage in self.dockerfile.stages:
            base = stage.base
            if not _is_reference(self.value(base.image, defaults, base)):
                message = f"Default value for ARG {base.image} results in empty or invalid base image name"
                self.say("InvalidDefaultArgInFrom", base.location, message)

    def value(self, text: str | None, env: Mapping[str, str], instruction: Instruction) -> str:
        try:
            return words.expand(text or "", env, self.dockerfile.escape)
        except Fault as fault:
            raise locate(fault, self.dockerfile, instruction.location) from fault

    def base(self, stage: ast.Stage) -> _Stage:
        """Look at a FROM, and return what the stage begins with."""
        base = stage.base
        try:
            image = words.process(base.image, self.globals, self.dockerfile.escape)
            self.undeclared(image.unmatched, base)
            if not image.text:
                raise Fault(f"base name ({base.image}) should not be blank", base.image)
            platform = words.process(base.platform, self.globals, self.dockerfile.escape)
            self.undeclared(platform.unmatched, base)
        except Fault as fault:
            raise locate(fault, self.dockerfile, base.location) from fault
        if base.platform:
            self.platform(base, platform)
        if image.text in self.stages:
            return self.stages[image.text].copy()
        found = self.around.base(image.text, platform.text) if image.text != "scratch" else Base()
        self.base_platform(base, platform.text or self.around.predefined.get("TARGETPLATFORM", ""), found.platform)
        return _Stage(found)

    def undeclared(self, names: frozenset[str], base: ast.From) -> None:
        for name in sorted(names):
            near = nearest(name, self.globals, any_case=False)
            message = f"FROM argument '{name}' is not declared" + (f" (did you mean {near}?)" if near else "")
            self.say("UndefinedArgInFrom", base.location, message)

    def platform(self, base: ast.From, found: words.Processed) -> None:
        target = self.around.predefined.get("TARGETPLATFORM")
        if found.matched == {"TARGETPLATFORM"} and not found.unmatched and target and found.text == target:
            message = f"Setting platform to predefined {base.platform} in FROM is redundant"
            message += " as this is the default behavior"
            self.say("RedundantTargetPlatform", base.location, message)
        platform = _platform(found.text) if not found.matched and not found.unmatched else None
        # A stage that is named by its platform means it.
        if platform and platform.os not in base.stage and platform.architecture not in base.stage:
            message = f"FROM --platform flag should not use constant value {quoted(base.platform)}"
            self.say("FromPlatformFlagConstDisallowed", base.location, message)

    def base_platform(self, base: ast.From, wanted: str, actual: Platform | None) -> None:
        expected = _platform(wanted)
        if expected and actual and (expected.os, expected.architecture) != (actual.os, actual.architecture):
            message = (
                f"Base image {base.image} was pulled with platform {quoted(str(actual))}, "
                f"expected {quoted(str(expected))} for current build"
            )
            self.say("InvalidBaseImagePlatform", base.location, message)

    # ----------------------------------------------------------------------------------------- a stage's instructions

    def instruction(self, written: Instruction, stage: _Stage) -> None:
        def process(text: str, lexer: words.Lexer = self.lexer) -> words.Processed:
            return self.expanded(text, lexer, written, stage)

        instruction = expand_with(written, process, self.dockerfile.escape)
        if stage.known:
            configuration.apply(ExecutionConfig(), instruction)  # a port, signal or path that is none
        match instruction:
            case ast.Arg():
                self.arguments(instruction, stage)
            case ast.Env(pairs=pairs):
                self.legacy(instruction, pairs)
                for pair in pairs:
                    self.secret("ENV", pair.name, instruction)
                stage.env.update((pair.name, pair.value) for pair in pairs)
            case ast.Label(pairs=pairs):
                self.legacy(instruction, pairs)
            case ast.Run(mounts=mounts):
                for mount in mounts:
                    parse_mount(mount, lambda text: process(text).text)
            case ast.Copy() | ast.Add():
                self.ignored(instruction)
            case ast.Workdir(path=path):
                if not path.startswith("/") and not stage.has_workdir:
                    message = f"Relative workdir {quoted(path)} can have unexpected results if the base image changes"
                    self.say("WorkdirRelativePath", instruction.location, message)
                stage.has_workdir = True
            case ast.Expose(ports=ports):
                self.ports(instruction, ports)
            case ast.Cmd() | ast.Entrypoint():
                self.once(instruction, stage)
                if instruction.command.is_shell and not stage.has_shell:
                    message = f"JSON arguments recommended for {instruction.keyword} to prevent unintended behavior"
                    message += " related to OS signals"
                    self.say("JSONArgsRecommended", instruction.location, message)
            case ast.Healthcheck():
                self.once(instruction, stage)
            case ast.Shell():
                stage.has_shell = True
            case _:
                pass

    def expanded(self, text: str, lexer: words.Lexer, instruction: Instruction, stage: _Stage) -> words.Processed:
        if not stage.known:
            return msgspec.structs.replace(lexer, keep_unset=True).process(text, stage.env)
        found = lexer.process(text, stage.env)
        # The words of EXPOSE are not looked at, as in BuildKit.
        if isinstance(instruction, ast.Expose):
            return found
        for name in sorted(found.unmatched - stage.declared):
            near = nearest(name, stage.env, any_case=False)
            message = f"Usage of undefined variable '${name}'" + (f" (did you mean ${near}?)" if near else "")
            self.say("UndefinedVar", instruction.location, message)
        return found

    def arguments(self, instruction: ast.Arg, stage: _Stage) -> None:
        for argument in instruction.arguments:
            name = argument.name
            self.secret("ARG", name, instruction)
            value = self.around.arguments.get(name)
            if value is None and argument.value is not None:
                value = self.expanded(argument.value, self.lexer, instruction, stage).text
            elif value is None:
                value = self.globals.get(name)
            if value is not None:
                stage.env[name] = value
            stage.declared.add(name)

    def secret(self, keyword: str, name: str, instruction: Instruction) -> None:
        if _SECRET.search(name) and not _PUBLIC.search(name):
            message = f"Do not use ARG or ENV instructions for sensitive data ({keyword} {quoted(name)})"
            self.say("SecretsUsedInArgOrEnv", instruction.location, message)

    def legacy(self, instruction: Instruction, pairs: tuple[ast.Pair, ...]) -> None:
        if any(pair.legacy for pair in pairs):
            keyword = instruction.keyword
            message = f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format'
            self.say("LegacyKeyValueFormat", instruction.location, message)

    def once(self, instruction: Instruction, stage: _Stage) -> None:
        before = stage.seen.get(type(instruction))
        if before is not None:
            # What is said is where the one is that doesn't count.
            message = f"Multiple {instruction.keyword} instructions should not be used in the same stage"
            message += " because only the last one will be used"
            self.say("MultipleInstructionsDisallowed", before.location, message)
        stage.seen[type(instruction)] = instruction

    def ports(self, instruction: Instruction, ports: tuple[str, ...]) -> None:
        for port in sorted(ports):
            protocol = port.rpartition("/")[2] if "/" in port else ""
            if protocol != protocol.lower():
                message = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                self.say("ExposeProtoCasing", instruction.location, message)
            if ":" in port:
                message = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                self.say("ExposeInvalidFormat", instruction.location, message)

    def ignored(self, instruction: ast.Copy | ast.Add) -> None:
        is_asked_for = self.chosen.has(RULES["CopyIgnoredFile"])
        if not is_asked_for or (isinstance(instruction, ast.Copy) and instruction.from_):
            return
        verb = "Copy" if isinstance(instruction, ast.Copy) else "Add"
        for source in instruction.sources:
            if not source.startswith(("http://", "https://")) and self.around.ignored(source):
                message = f"Attempting to {verb} file {quoted(source)} that is excluded by .dockerignore"
                self.say("CopyIgnoredFile", instruction.location, message)


def _is_reference(text: str) -> bool:
    try:
        Reference.parse(text)
    except InvalidInput:
        return False
    return True


def _platform(text: str) -> Platform | None:
    try:
        return Platform.parse(text) if text else None
    except InvalidInput:
        return None
