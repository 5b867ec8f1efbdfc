"""Which stages a Dockerfile has, what each stands on, and which of them a build needs. Pure.

Stages know each other by name or number. What an image's ONBUILD copies from a stage is found out when the image is
known: `Graph.origin` finds stages for these triggers, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.build.dockerfile import ast, words
from sampan.build.dockerfile.ast import Dockerfile, Instruction
from sampan.build.dockerfile.errors import DockerfileError, Fault, excerpt, quoted, suggest
from sampan.build.dockerfile.mounts import origin_name
from sampan.errors import InvalidInput, SampanError
from sampan.spec.build import Origin, OriginKind
from sampan.spec.distribution import Platform
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sampan.spec.build import BuildRequest

_WITHOUT_CONTEXT = frozenset({"scratch", "context"})
"""Names that no --build-context replaces."""


class Platforms(msgspec.Struct, frozen=True, kw_only=True):
    """What the build runs on, and what it builds for."""

    build: Platform
    target: Platform


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A FROM and what follows it. `label` is how progress calls it: "" where the file has but one."""

    index: int
    name: str  # in lower case, "" without AS
    label: str
    base: Origin
    base_text: str  # FROM's operand after substitution: debian:12
    platform: Platform
    location: ast.Location
    instructions: tuple[Instruction, ...] = ()
    no_cache: bool = False
    needs: frozenset[int] = frozenset()  # stages; what ONBUILD of an image adds is not in it


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """The stages of a build, those that nothing needs too."""

    dockerfile: Dockerfile
    stages: tuple[Stage, ...]
    target: int
    arguments: dict[str, str]  # what ARG without a value finds: of the platform, and those before the first FROM
    contexts: frozenset[str] = frozenset()  # the names of --build-context

    @property
    def needed(self) -> tuple[int, ...]:
        """The stages to build, in the order of the file: none comes before what it needs."""
        return tuple(sorted(_reached(self.stages, self.target)))

    @property
    def below(self) -> frozenset[int]:
        """The stages whose layers the target's image has: the target, and those that it stands on."""
        found, stage = {self.target}, self.stages[self.target]
        while stage.base.kind is OriginKind.STAGE:
            stage = self.stages[stage.base.stage]
            found.add(stage.index)
        return frozenset(found)

    def origin(self, name: str, stage: Stage) -> Origin:
        """Find what `--from=name` in a stage means. Raises Fault for a stage that comes later."""
        index = _stage_named(name, [(each.index, each.name) for each in self.stages])
        if index is None:
            return _outside(name, self.contexts)
        if index >= stage.index:
            label = stage.name or f"stage-{stage.index}"
            raise Fault(
                f"cannot copy from stage {quoted(name)}, it needs to be defined before current stage {quoted(label)}",
                name,
            )
        return Origin(kind=OriginKind.STAGE, stage=index)

    def nearest(self, name: str) -> str:
        """Say which stage may have been meant by a name that no image has: " (did you mean build?)", or ""."""
        return suggest(name, (stage.name for stage in self.stages if stage.name))

    def error(self, fault: Fault, location: ast.Location) -> DockerfileError:
        """Put a fault into its lines."""
        return _error(self.dockerfile, fault, location)


def plan(dockerfile: Dockerfile, request: BuildRequest, platforms: Platforms) -> Graph:
    """Put the stages in relation. Raises DockerfileError: an unknown target, a cycle, a stage that comes too late."""
    arguments = _arguments(dockerfile, request, platforms)
    contexts = frozenset(request.contexts)
    stages: list[Stage] = []
    for written in dockerfile.stages:
        stages.append(_stage(dockerfile, written, stages, request, (arguments, contexts, platforms.target)))
    stages = [msgspec.structs.replace(stage, needs=_needs(dockerfile, stage, stages)) for stage in stages]
    graph = Graph(
        dockerfile=dockerfile,
        stages=tuple(stages),
        target=_target(dockerfile, request.target, stages),
        arguments=arguments,
        contexts=contexts,
    )
    for stage in stages:
        for instruction in stage.instructions:
            _check_order(graph, stage, instruction)
    return graph


# ------------------------------------------------------------------------------------------------------- arguments


def platform_arguments(platforms: Platforms, target: str) -> dict[str, str]:
    """Return the ARGs that are there without being given, by BuildKit's names."""
    values: dict[str, str] = {}
    for prefix, platform in (("BUILD", platforms.build), ("TARGET", platforms.target)):
        values |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}OSVERSION": platform.os_version or "",
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant or "",
        }
    return {**values, "TARGETSTAGE": target or "default"}


def _arguments(dockerfile: Dockerfile, request: BuildRequest, platforms: Platforms) -> dict[str, str]:
    target = request.target or dockerfile.stages[-1].name
    values = {name: request.args.get(name, value) for name, value in platform_arguments(platforms, target).items()}
    for instruction in dockerfile.args:
        for argument in instruction.arguments:
            if argument.name in request.args:
                values[argument.name] = request.args[argument.name]
            elif argument.value is not None:
                values[argument.name] = _expand(dockerfile, argument.value, values, instruction.location)
    return values


def _expand(dockerfile: Dockerfile, text: str, values: Mapping[str, str], location: ast.Location) -> str:
    try:
        return words.expand(text, values, dockerfile.escape)
    except Fault as fault:
        raise _error(dockerfile, fault, location) from fault


# ---------------------------------------------------------------------------------------------------------- stages


def _stage(
    dockerfile: Dockerfile,
    written: ast.Stage,
    earlier: list[Stage],
    request: BuildRequest,
    given: tuple[dict[str, str], frozenset[str], Platform],
) -> Stage:
    arguments, contexts, target = given
    location = written.base.location
    base_text = _expand(dockerfile, written.base.image, arguments, location)
    if not base_text:
        raise _error(dockerfile, Fault(f"base name ({written.base.image}) should not be blank"), location)
    name, label = written.name, written.name or f"stage-{written.number}"
    replaced = _context_named(name, contexts) if name else None
    base = (
        Origin(kind=OriginKind.NAMED, name=replaced)
        if replaced is not None
        else _base(dockerfile, base_text, earlier, contexts, location)
    )
    return Stage(
        index=written.number,
        name=name,
        label=label if len(dockerfile.stages) > 1 else "",
        base=base,
        base_text=replaced if replaced is not None else base_text,
        platform=_platform(dockerfile, written.base, arguments, target),
        location=location,
        instructions=() if replaced is not None else written.instructions,
        no_cache=request.no_cache or name in {each.lower() for each in request.no_cache_filter if name},
    )


def _base(
    dockerfile: Dockerfile, text: str, earlier: list[Stage], contexts: frozenset[str], location: ast.Location
) -> Origin:
    """What FROM stands on: only a stage before it, by its name; of two with one name, the later."""
    for stage in reversed(earlier):
        if stage.name and stage.name == text:
            return Origin(kind=OriginKind.STAGE, stage=stage.index)
    origin = _outside(text, contexts)
    if origin.kind is OriginKind.IMAGE:
        try:
            Reference.parse(text)
        except InvalidInput as e:
            near = suggest(text, (stage.name for stage in earlier if stage.name))
            raise _error(dockerfile, Fault(f"failed to parse stage name {quoted(text)}: {e.message}{near}", text), location) from e  # fmt: skip  # noqa: E501
    return origin


def _platform(dockerfile: Dockerfile, base: ast.From, arguments: dict[str, str], target: Platform) -> Platform:
    if not base.platform:
        return target
    text = _expand(dockerfile, base.platform, arguments, base.location)
    try:
        if not text:
            raise InvalidInput(f"empty platform value from expression {base.platform}")
        return Platform.parse(text)
    except SampanError as e:
        fault = Fault(f"failed to parse platform {base.platform}: {e.message}", base.platform, e.hint)
        raise _error(dockerfile, fault, base.location) from e


def _outside(name: str, contexts: frozenset[str]) -> Origin:
    context = _context_named(name, contexts)
    if context is not None:
        return Origin(kind=OriginKind.NAMED, name=context)
    if name == "scratch":
        return Origin(kind=OriginKind.SCRATCH)
    return Origin(kind=OriginKind.IMAGE, name=name)


def _context_named(name: str, contexts: frozenset[str]) -> str | None:
    """The --build-context that replaces an image or a stage: by the image's familiar name, `latest` left out."""
    if name.lower() in _WITHOUT_CONTEXT:
        return None
    wanted = _short(name)
    return next((context for context in sorted(contexts) if _short(context) == wanted), None)


def _short(name: str) -> str:
    try:
        return Reference.parse(name).familiar().removesuffix(":latest")
    except InvalidInput:
        return name


# ------------------------------------------------------------------------------------------- who needs whom


def _needs(dockerfile: Dockerfile, stage: Stage, stages: list[Stage]) -> frozenset[int]:
    found = {stage.base.stage} if stage.base.kind is OriginKind.STAGE else set()
    own = list(stage.instructions)
    if stage.base.kind is OriginKind.STAGE:
        base = stages[stage.base.stage]
        own += [each.instruction for each in base.instructions if isinstance(each, ast.OnBuild)]
    names = [(each.index, each.name) for each in stages]
    for instruction in own:
        for name in _from_names(dockerfile, instruction):
            try:
                index = _stage_named(name, names)
            except Fault as fault:
                raise _error(dockerfile, fault, instruction.location) from fault
            if index is not None:
                found.add(index)
    return frozenset(found)


def _from_names(dockerfile: Dockerfile, instruction: Instruction) -> Iterator[str]:
    """What an instruction takes files from by `from`."""
    try:
        if isinstance(instruction, ast.Copy) and instruction.from_:
            if words.expand(instruction.from_, {}, dockerfile.escape) != instruction.from_:
                raise Fault(
                    "variable expansion is not supported for --from, define a new stage with FROM using ARG from "
                    "global scope as a workaround",
                    instruction.from_,
                )
            yield instruction.from_
        if isinstance(instruction, ast.Run):
            yield from filter(None, map(origin_name, instruction.mounts))
    except Fault as fault:
        raise _error(dockerfile, fault, instruction.location) from fault


def _stage_named(name: str, stages: list[tuple[int, str]]) -> int | None:
    """The stage of a name, the last of several, or of a number."""
    if name.isascii() and name.isdigit():
        index = int(name) if len(name) < 10 else len(stages)
        if index >= len(stages):
            raise Fault(f"invalid stage index {name}", name, f"the stages are 0 to {len(stages) - 1}")
        return index
    return next((index for index, known in reversed(stages) if known and known == name.lower()), None)


def _check_order(graph: Graph, stage: Stage, instruction: Instruction) -> None:
    """Refuse what takes files from its own stage or a later one; a cycle can come of nothing else."""
    names = [(each.index, each.name) for each in graph.stages]
    for name in _from_names(graph.dockerfile, instruction):
        index = _stage_named(name, names)
        if index is not None and index >= stage.index and stage.index in _reached(graph.stages, index):
            label = stage.name or f"stage-{stage.index}"
            fault = Fault(f"circular dependency detected on stage: {label}", name)
            raise graph.error(fault, instruction.location)
        try:
            graph.origin(name, stage)
        except Fault as fault:
            raise graph.error(fault, instruction.location) from fault


def _reached(stages: Sequence[Stage], start: int) -> frozenset[int]:
    """A stage, all that it needs, and what these need."""
    found: set[int] = set()
    waiting = [start]
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting += stages[index].needs
    return frozenset(found)


def _target(dockerfile: Dockerfile, name: str, stages: list[Stage]) -> int:
    if not name:
        return len(stages) - 1
    try:
        index = _stage_named(name, [(stage.index, stage.name) for stage in stages])
    except Fault:
        index = None
    if index is None:
        near = suggest(name, (stage.name for stage in stages if stage.name))
        known = ", ".join(stage.name or str(stage.index) for stage in stages)
        raise InvalidInput(
            f"can't build {dockerfile.name}: target stage {quoted(name)} could not be found{near}",
            f"its stages: {known}",
        )
    return index


# ---------------------------------------------------------------------------------------------------------- errors


def _error(dockerfile: Dockerfile, fault: Fault, location: ast.Location) -> DockerfileError:
    lines = excerpt(dockerfile.source, dockerfile.name, location, fault.near)
    return DockerfileError(
        f"can't build {dockerfile.name}: {fault.cause}\n{lines}", fault.hint, cause=fault.cause, location=location
    )
