"""Which words of an instruction are substituted, and the substitution of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from msgspec.structs import replace

from sampan.build.dockerfile import ast, words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_Some = TypeVar("_Some", bound=ast.Instruction)


def expand(instruction: _Some, env: Mapping[str, str], escape: str = "\\") -> _Some:
    """Return the instruction with everything substituted that the language substitutes in it.

    Left as they are: a RUN's mounts (`mounts.parse_mount` takes a function for that, since they are split before), and
    ARG, where a default counts only if no other value is given, and sees the names before it in the same instruction.
    Raises Fault with the word that is wrong; `parse.locate` puts it into its file.
    """
    return expand_with(instruction, lambda text, lexer: lexer.process(text, env), escape)


def expand_with(
    instruction: _Some, process: Callable[[str, words.Lexer], words.Processed], escape: str = "\\"
) -> _Some:
    """Do the same by a function, which is told how each text is to be taken."""
    lexer = words.Lexer(escape=escape)
    return cast("_Some", _expanded(instruction, lambda text: process(text, lexer), process))


def _expanded(
    instruction: ast.Instruction,
    word: Callable[[str], words.Processed],
    process: Callable[[str, words.Lexer], words.Processed],
) -> ast.Instruction:
    match instruction:
        case ast.Env() | ast.Label():
            pairs = (
                replace(each, name=word(each.name).text, value=word(each.value).text) for each in instruction.pairs
            )
            return replace(instruction, pairs=tuple(pairs))
        case ast.Copy() | ast.Add():
            return _files(instruction, word, process)
        case ast.From():
            return replace(instruction, image=word(instruction.image).text, platform=word(instruction.platform).text)
        case ast.Expose():
            return replace(instruction, ports=word(" ".join(instruction.ports)).words)
        case ast.Volume():
            return replace(instruction, paths=tuple(word(path).text for path in instruction.paths))
        case ast.Workdir():
            return replace(instruction, path=word(instruction.path).text)
        case ast.User():
            return replace(instruction, user=word(instruction.user).text)
        case ast.StopSignal():
            return replace(instruction, signal=word(instruction.signal).text)
        case _:
            return instruction


def _files(
    instruction: ast.Copy | ast.Add,
    word: Callable[[str], words.Processed],
    process: Callable[[str, words.Lexer], words.Processed],
) -> ast.Copy | ast.Add:
    # Escapes of a document are a shell's, whatever the file's escape character is.
    document = words.Lexer(quotes=False)
    expanded = replace(
        instruction,
        chown=word(instruction.chown).text,
        chmod=word(instruction.chmod).text,
        sources=tuple(word(source).text for source in instruction.sources),
        destination=word(instruction.destination).text,
        inline=tuple(
            replace(each, content=process(each.text, document).text, expand=False, chomp=False) if each.expand else each
            for each in instruction.inline
        ),
    )
    return replace(expanded, checksum=word(expanded.checksum).text) if isinstance(expanded, ast.Add) else expanded
