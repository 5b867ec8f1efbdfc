"""The Dockerfile language: text to tree."""

from __future__ import annotations

import pytest

from sampan.build.dockerfile import DockerfileError, ast, parse

FROM = "FROM debian\n"


def only(text: str) -> ast.Instruction:
    """The one instruction after FROM."""
    (instruction,) = parse(FROM + text).stages[0].instructions
    return instruction


def test_a_file_is_its_arguments_and_its_stages() -> None:
    dockerfile = parse("ARG V=12\nFROM debian:$V AS Base\nRUN true\nFROM base\nCOPY --from=base a b\n")

    assert [argument.arguments for argument in dockerfile.args] == [(ast.Argument(name="V", value="12"),)]
    assert [(stage.number, stage.name, stage.base.image) for stage in dockerfile.stages] == [
        (0, "base", "debian:$V"),
        (1, "", "base"),
    ]
    assert [type(instruction) for stage in dockerfile.stages for instruction in stage.instructions] == [
        ast.Run,
        ast.Copy,
    ]


def test_a_continued_line_leaves_out_comments_and_empty_lines() -> None:
    run = only("RUN a \\\n  # why\n\n  b\n")

    assert isinstance(run, ast.Run)
    assert run.command == ast.Command(words=("a   b",), is_shell=True)
    assert run.location == ast.Location(2, 5)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("FORM debian", "unknown instruction: FORM (did you mean FROM?)"),
        ("RUN true", "no build stage in current context"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("", "file with no instructions"),
    ],
)
def test_what_is_wrong_is_said_in_buildkits_words(text: str, cause: str) -> None:
    with pytest.raises(DockerfileError) as raised:
        parse(text)

    assert raised.value.cause == cause
