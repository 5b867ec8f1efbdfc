"""A tree to text and back, and what holds of any text."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings, strategies as st

from sampan.build.dockerfile import DockerfileError, parse, render, render_instruction
from support.dockerfiles import SEEDS, WORDS, check


@pytest.mark.parametrize("text", SEEDS)
def test_a_file_comes_out_as_it_went_in(text: str) -> None:
    check(text)


def test_rendering_puts_an_instruction_on_one_line_and_keeps_comments_and_documents() -> None:
    text = (
        "#escape=`\n# a\nfrom b as C\n\nrun --network=none `\n  # lost\n  c <<d\ne\nd\ncopy --chown='x y' a b\n# end\n"
    )

    assert render(parse(text)) == (
        '# escape=`\n# a\nFROM b as C\n\nRUN --network=none c <<d\ne\nd\nCOPY --chown="x y" a b\n# end\n'
    )


@pytest.mark.parametrize(
    "line",
    [
        "HEALTHCHECK --interval=1m --timeout=1500ms --start-period=1h --start-interval=1000001ns CMD a",
        'COPY ["a b", "/c"]',
        "ADD --link --keep-git-dir --unpack=false a b",
        "ADD --unpack a b",
        "ENV a b c",
        "ENTRYPOINT []",
        "CMD",
        "RUN -- --a",
        "RUN a \\\\",
        "ONBUILD ENV a=b",
        "COPY 1<<E 0\nx\nE",
    ],
)
def test_an_instruction_is_written_as_it_was(line: str) -> None:
    (instruction,) = parse(f"FROM a\n{line}\n").stages[0].instructions

    assert render_instruction(instruction) == line


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(st.characters(), max_size=3)), max_size=30).map("".join))
def test_any_text_is_a_file_or_refused_with_a_word(text: str) -> None:
    with contextlib.suppress(DockerfileError):
        check("FROM a\n" + text)
    with contextlib.suppress(DockerfileError):
        check(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_file_or_refused_with_a_word(data: bytes) -> None:
    with contextlib.suppress(DockerfileError):
        check(b"FROM a\n" + data)


PIECE = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), max_size=8)
LINE = st.builds(
    lambda keyword, options, rest: f"{keyword} {options} {rest}",
    st.sampled_from(
        [
            "RUN",
            "COPY",
            "ADD",
            "ENV",
            "ARG",
            "LABEL",
            "EXPOSE",
            "VOLUME",
            "CMD",
            "RUN -- --a",
            "RUN a \\\\",
            "WORKDIR",
            "USER",
            "ONBUILD RUN",
            "ONBUILD ENV",
        ]
    ),
    st.sampled_from(["", "", "--from=x", "--mount=type=cache,target=/x", "--chown='a b'", "--exclude=a\\ b", "--"]),
    st.lists(st.one_of(PIECE, st.sampled_from(WORDS)), max_size=6)
    .map("".join)
    .map(lambda text: text.replace("\n", " ")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINE, max_size=4))
def test_a_file_of_right_instructions_is_the_same_after_rendering(lines: list[str]) -> None:
    with contextlib.suppress(DockerfileError):
        check("\n".join(["FROM a", *lines, "E", "E", ""]))
    for line in lines:
        with contextlib.suppress(DockerfileError):
            check(f"FROM a\n{line}\n\tE\nE\n")
