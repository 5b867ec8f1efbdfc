"""Dockerfiles made at random that are mostly right, and what holds of any text. For hypothesis and `make fuzz`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.build.dockerfile import DockerfileError, Fault, ast, expand, locate, parse, render, words
from sampan.build.dockerfile.heredoc import run_arguments
from sampan.build.dockerfile.mounts import parse_mount
from sampan.build.lint import Surroundings, lint

if TYPE_CHECKING:
    from sampan.build.dockerfile.ast import Dockerfile, Instruction

WORDS = (
    *("FROM", "AS", "RUN", "COPY", "ADD", "ENV", "ARG", "LABEL", "ONBUILD", "HEALTHCHECK", "CMD", "VOLUME", "EXPOSE"),
    *(
        "\n",
        "\n\n",
        "\r\n",
        " ",
        "\t",
        "\\\n",
        "\\",
        "`",
        "#",
        "# ",
        "# escape=`\n",
        "# check=skip=all\n",
        "# syntax=x\n",
    ),
    *(
        "<<E",
        "<<-E",
        "<<'E'",
        '3<<"E"',
        "\nE\n",
        "\n\tE\n",
        "'",
        '"',
        "$",
        "${",
        "}",
        "$a",
        "${a:-b}",
        "${a#*}",
        "${a//b/c}",
    ),
    *(
        "[",
        "]",
        '["a", "b"]',
        "[1]",
        ",",
        "=",
        "a=b",
        "--mount=type=cache,target=/x",
        "--from=a",
        "--chown=1:2",
        "--link",
    ),
    *(
        "--exclude=a",
        "--",
        "--network=none",
        "--interval=1s",
        "/",
        ".",
        ":",
        "\ufeff",
        "\u2028",
        "\x1c",
        "\x85",
        "\xa0",
        "é",
    ),
)
"""Pieces that mean something."""

SEEDS = (
    """\
# syntax=docker/dockerfile:1
# escape=\\

# the base
ARG V=12
FROM --platform=$BUILDPLATFORM debian:${V:-11} AS Base
RUN --mount=type=cache,target=/x --network=none a \\
  # c
  b
RUN <<E sh <<-'F'
a
E
\tb
\tF
""",
    """\
FROM a
COPY --chown=1:2 --exclude=*.x a "b" /c/
COPY <<E <<-F /d/
$a
E
\tb
F
ADD --checksum=sha256:0 http://x /y
ENV a b c
ENV a="b c" d=e\\ f
ARG x y=${a%%.*}
LABEL "a b"=c
EXPOSE 80 $p
VOLUME ["/a b"]
VOLUME /a /b
""",
    """\
FROM a
HEALTHCHECK --interval=5s --retries=3 CMD curl
HEALTHCHECK NONE
ONBUILD RUN <<E cat
hi
E
WORKDIR $x
USER a
CMD ["a", "b"]
ENTRYPOINT a b
SHELL ["sh"]
STOPSIGNAL 9
MAINTAINER me
COPY ["a b", "c"]
# end
""",
)
ENV = {"a": "abc", "x": "", "p": "80 90"}


def check(text: str | bytes) -> None:
    """What holds of every text: DockerfileError, or a tree that is the same after rendering, expanded or refused.

    And all of it can be written: as UTF-8.
    """
    try:
        dockerfile = parse(text)
        _check(dockerfile)
    except DockerfileError as e:
        e.message.encode()
        e.hint.encode()
        raise


def _check(dockerfile: Dockerfile) -> None:
    render(dockerfile).encode()
    again = parse(render(dockerfile), dockerfile.name)
    assert bare(again) == bare(dockerfile)
    assert render(again) == render(dockerfile)
    for violation in lint(dockerfile, Surroundings()).violations:
        f"{violation.message}{violation.source}".encode()
    for stage in dockerfile.stages:
        for instruction in (stage.base, *stage.instructions):
            assert instruction.location.start <= instruction.location.end
            try:
                use(instruction, dockerfile.escape)
            except Fault as fault:
                raise locate(fault, dockerfile, instruction.location) from fault


def use(instruction: Instruction, escape: str) -> None:
    """Do with an instruction what a build does."""
    expand(instruction, ENV, escape)
    if isinstance(instruction, ast.Run):
        run_arguments(instruction, ("sh", "-c"))
        for mount in instruction.mounts:
            parse_mount(mount, lambda text: words.expand(text, ENV, escape))


def bare(dockerfile: Dockerfile) -> Dockerfile:
    """The same tree without what rendering makes new: lines, text, the case of keywords."""
    return replace(
        dockerfile,
        source="",
        args=tuple(_bare(each) for each in dockerfile.args),
        directives=tuple(replace(each, location=NOWHERE) for each in dockerfile.directives),
        empty_continuations=(),
        stages=tuple(
            replace(stage, base=_bare(stage.base), instructions=tuple(_bare(each) for each in stage.instructions))
            for stage in dockerfile.stages
        ),
    )


NOWHERE = ast.Location(0, 0)


def _bare(instruction: Instruction) -> Instruction:
    instruction = replace(instruction, location=NOWHERE, text="", keyword=instruction.name)
    if isinstance(instruction, ast.OnBuild):
        # The expression is the text as it was written.
        return replace(instruction, expression="", instruction=_bare(instruction.instruction))
    return instruction
