"""Heredocs: the words `<<EOF` of RUN, COPY and ADD, and what a RUN with them executes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sampan.build.dockerfile.ast import Heredoc
from sampan.build.dockerfile.errors import Fault
from sampan.build.dockerfile.flags import json_words, split_keyword, split_options
from sampan.build.dockerfile.words import Lexer

if TYPE_CHECKING:
    from sampan.build.dockerfile.ast import Run

_WORD = re.compile(r"([0-9]*)<<(-?)([^<]*)", re.DOTALL)
_INSTRUCTIONS = frozenset({"RUN", "COPY", "ADD"})
# The words are always a shell's, so a backslash escapes in them, whatever the file's escape character is.
_PLAIN = Lexer(keep_unset=True)
_QUOTED = Lexer(keep_unset=True, keep_quotes=True)
_RAW = Lexer(keep_unset=True, keep_quotes=True, keep_escapes=True)


def heredocs_of(line: str) -> tuple[Heredoc, ...]:
    """Return the heredocs that an instruction's line opens, without content. ONBUILD may hold such an instruction."""
    if "<<" not in line:
        return ()
    keyword, rest = split_keyword(line)
    if keyword.upper() == "ONBUILD":
        keyword, rest = split_keyword(split_options(rest)[1])
    if keyword.upper() not in _INSTRUCTIONS:
        return ()
    try:
        if json_words(split_options(rest)[1]) is not None:
            return ()
        words = _RAW.process(line, {}).words
    except Fault:
        return ()  # a quote or a brace of the shell's that is none of ours: BuildKit sees no heredoc then
    return tuple(found for word in words if (found := heredoc(word)))


def heredoc(word: str) -> Heredoc | None:
    """Return what the word `<<EOF`, `<<-EOF`, `3<<'EOF'` opens, None where it is no such word."""
    match = _WORD.fullmatch(word)
    if match is None or not match[3]:
        return None
    try:
        plain = _PLAIN.process(match[3], {}).words
        quoted = _QUOTED.process(match[3], {}).words
    except Fault:
        return None
    if len(plain) != 1 or len(quoted) != 1:
        return None
    return Heredoc(
        name=plain[0],
        word=match[3],
        content="",
        expand=_quotes(plain[0]) == _quotes(quoted[0]),
        chomp=match[2] == "-",
        file_descriptor=int(match[1][:9] or "0"),
    )


def _quotes(word: str) -> int:
    return word.count("'") + word.count('"')


def run_arguments(run: Run, shell: tuple[str, ...]) -> tuple[tuple[str, ...], Heredoc | None]:
    """Return the argv of a RUN, and the script that it needs as an executable file, whose path is put for `argv[-1]`.

    As BuildKit does it: a lone heredoc is the script itself, a file where it begins with `#!` (mounted, executed, not
    in the layer: argv is then just its name), for the shell's `-c` otherwise. With other words around it, the shell
    gets the words and the documents as they stand.
    """
    command = run.command
    if not command.is_shell:
        return command.words, None
    text = command.words[0] if command.words else ""
    if not run.heredocs:
        return (*shell, text), None
    first = run.heredocs[0]
    if len(run.heredocs) == 1 and heredoc(text) is not None:
        if first.content.startswith("#!"):
            return (first.name,), first
        return (*shell, first.text), None
    for each in run.heredocs:
        text += f"\n{each.content}{each.name}"
    return (*shell, text), None
