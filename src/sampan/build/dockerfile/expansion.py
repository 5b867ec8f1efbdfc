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
    one: Callable[[str], str] = lambda text: words.expand(text, env, escape)
    document = words.Lexer(quotes=False)
    return cast("_Some", _expanded(instruction, one, env, escape, document))


def _expanded(
    instruction: ast.Instruction,
    one: Callable[[str], str],
    env: Mapping[str, str],
    escape: str,
    document: words.Lexer,
) -> ast.Instruction:
    match instruction:
        case ast.Env() | ast.Label():
            return replace(
                instruction,
                pairs=tuple(replace(each, name=one(each.name), value=one(each.value)) for each in instruction.pairs),
            )
        case ast.Copy() | ast.Add():
            return _files(instruction, one, env, document)
        case ast.From():
            return replace(instruction, image=one(instruction.image), platform=one(instruction.platform))
        case ast.Expose():
            return replace(instruction, ports=words.split(" ".join(instruction.ports), env, escape))
        case ast.Volume():
            return replace(instruction, paths=tuple(map(one, instruction.paths)))
        case ast.Workdir():
            return replace(instruction, path=one(instruction.path))
        case ast.User():
            return replace(instruction, user=one(instruction.user))
        case ast.StopSignal():
            return replace(instruction, signal=one(instruction.signal))
        case _:
            return instruction


def _files(
    instruction: ast.Copy | ast.Add, one: Callable[[str], str], env: Mapping[str, str], document: words.Lexer
) -> ast.Copy | ast.Add:
    inline = tuple(
        replace(each, content=document.process(each.text, env).text, expand=False, chomp=False) if each.expand else each
        for each in instruction.inline
    )
    expanded = replace(
        instruction,
        sources=tuple(map(one, instruction.sources)),
        destination=one(instruction.destination),
        chown=one(instruction.chown),
        chmod=one(instruction.chmod),
        inline=inline,
    )
    return replace(expanded, checksum=one(expanded.checksum)) if isinstance(expanded, ast.Add) else expanded
