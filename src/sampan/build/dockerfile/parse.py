"""A Dockerfile's text to its syntax tree."""

from __future__ import annotations

from msgspec.structs import replace

from sampan.build.dockerfile.ast import Arg, Dockerfile, From, Instruction, Location, Stage
from sampan.build.dockerfile.errors import DockerfileError, Fault, dockerfile_error
from sampan.build.dockerfile.flags import split_keyword
from sampan.build.dockerfile.instructions import instruction
from sampan.build.dockerfile.scan import Line, Scan, scan
from sampan.build.dockerfile.text import NO_UTF8, mended


def parse(text: str | bytes, name: str = "Dockerfile") -> Dockerfile:
    """Read a whole Dockerfile; `name` is for messages. Raises DockerfileError.

    Bytes that are no UTF-8 (in a text: surrogates, as surrogateescape leaves them) become U+FFFD, as in Docker's
    images, but are refused in RUN, COPY and ADD, where they would make other commands and files.
    """
    source = (text if isinstance(text, str) else text.decode(errors="surrogateescape")).removeprefix("\ufeff")
    _check_text(source, name)
    scanned = scan(source, name)
    source = mended(source)
    instructions = _instructions(scanned, source, name)
    if not instructions:
        raise DockerfileError(f"can't parse {name}: file with no instructions", cause="file with no instructions")
    return Dockerfile(
        name=name,
        source=source,
        escape=scanned.escape,
        directives=tuple(replace(each, value=mended(each.value)) for each in scanned.directives),
        args=_arguments(instructions, source, name),
        stages=_stages(instructions),
        comments=tuple(map(mended, scanned.comments)),
        empty_continuations=tuple(
            Location(line.empty_continuation, line.empty_continuation)
            for line in scanned.lines
            if line.empty_continuation
        ),
    )


def _check_text(source: str, name: str) -> None:
    if "\0" in source:
        line = source.count("\n", 0, source.index("\0")) + 1
        raise DockerfileError(f"can't parse {name}: a NUL byte in line {line}: it is no text", "is it another file?")


def locate(fault: Fault, dockerfile: Dockerfile, location: Location) -> DockerfileError:
    """Put what was found when an instruction was expanded into its file."""
    return dockerfile_error(fault, dockerfile.name, dockerfile.source, location)


def parse_instructions(text: str, name: str, escape: str = "\\") -> tuple[Instruction, ...]:
    """Read instructions that are no whole file: an ONBUILD trigger, `--change`. Raises DockerfileError."""
    _check_text(text, name)
    return _instructions(scan(text, name, escape), mended(text), name)


def _readable(line: Line) -> Line:
    keyword = split_keyword(line.text)[0].upper()
    if keyword in {"RUN", "COPY", "ADD", "ONBUILD"}:
        texts = (line.text, *(each.content for each in line.heredocs))
        if any(NO_UTF8.search(text) for text in texts):
            raise Fault(
                f"{keyword} isn't UTF-8", keyword, "write the file in UTF-8, or a byte as its escape: printf '\\374'"
            )
    return replace(line, text=mended(line.text), comments=tuple(map(mended, line.comments)))


def _instructions(scanned: Scan, source: str, name: str) -> tuple[Instruction, ...]:
    found = []
    for line in scanned.lines:
        try:
            found.append(instruction(_readable(line), scanned.escape))
        except Fault as fault:
            raise dockerfile_error(fault, name, source, line.location) from fault
    return tuple(found)


def _arguments(instructions: tuple[Instruction, ...], source: str, name: str) -> tuple[Arg, ...]:
    """Return the ARGs before the first FROM; nothing else may be there."""
    found: list[Arg] = []
    for each in instructions:
        if isinstance(each, From):
            return tuple(found)
        if not isinstance(each, Arg):
            fault = Fault(
                "no build stage in current context", each.keyword, "begin with FROM; only ARG may be before it"
            )
            raise dockerfile_error(fault, name, source, each.location)
        found.append(each)
    fault = Fault("no build stage in current context", instructions[-1].keyword, "a FROM is needed")
    raise dockerfile_error(
        fault, name, source, Location(instructions[-1].location.start, instructions[-1].location.end)
    )


def _stages(instructions: tuple[Instruction, ...]) -> tuple[Stage, ...]:
    starts = [at for at, each in enumerate(instructions) if isinstance(each, From)]
    stages = []
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(instructions)], strict=True)):
        base = instructions[start]
        assert isinstance(base, From)
        stages.append(Stage(number=number, base=base, instructions=instructions[start + 1 : end]))
    return tuple(stages)
