"""Words of a Dockerfile: quotes, escapes, and variables with all their modifiers.

`$name` and `${name}`; `${name-word}` `${name+word}` `${name?message}` (with a colon, empty is as unset);
`${name#pattern}` `${name##pattern}` `${name%pattern}` `${name%%pattern}` take a prefix or suffix away, the shortest
or the longest; `${name/pattern/text}` `${name//pattern/text}` replace the first or every match. In patterns `*` and `?`
are wild. Words may contain variables again. These are the rules of BuildKit's frontend/dockerfile/shell.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from sampan.build.dockerfile import patterns
from sampan.build.dockerfile.errors import Fault, quoted
from sampan.build.dockerfile.text import SPACES

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLANKS = re.compile(f"[{re.escape(''.join(SPACES))}]")
_SPECIAL = frozenset("@*#?-$!0")  # the shell's own parameters, which a Dockerfile never has a value for
_DEEPEST = 50
_LARGEST = 1 << 20


class Processed(msgspec.Struct, frozen=True):
    """A text after substitution: as one word, split at blanks, and the variables that it met and missed."""

    text: str
    words: tuple[str, ...]
    matched: frozenset[str]
    unmatched: frozenset[str]


def expand(text: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """Substitute variables, take quotes and escapes away; blanks stay. Raises Fault."""
    return process(text, env, escape).text


def split(text: str, env: Mapping[str, str], escape: str = "\\") -> tuple[str, ...]:
    """Substitute, then split at blanks that are in no quotes; a variable's value is split too. Raises Fault."""
    return process(text, env, escape).words


def process(text: str, env: Mapping[str, str], escape: str = "\\") -> Processed:
    """Do both, and say which variables were there and which not. Raises Fault."""
    return Lexer(escape=escape).process(text, env)


class Lexer(msgspec.Struct, frozen=True, kw_only=True):
    """How a text is taken.

    With `keep_unset` a variable without value stays as written; without `quotes` a quote is a character like others.
    """

    escape: str = "\\"
    keep_quotes: bool = False
    keep_escapes: bool = False
    keep_unset: bool = False
    quotes: bool = True

    def process(self, text: str, env: Mapping[str, str]) -> Processed:
        """Substitute one text. Raises Fault."""
        if self._is_plain(text):
            return Processed(text, tuple(filter(None, _BLANKS.split(text))), frozenset(), frozenset())
        reader = _Reader(self, text, env)
        try:
            result, words = reader.until("", keep_escapes=self.keep_escapes)
        except Fault as fault:
            raise Fault(f"failed to process {quoted(text)}: {fault.cause}", text) from fault
        return Processed(result, tuple(words), frozenset(reader.matched), frozenset(reader.unmatched))

    def _is_plain(self, text: str) -> bool:
        """Tell whether nothing in a text, as in most, is to be substituted or taken away."""
        return not ("$" in text or self.escape in text or (self.quotes and ("'" in text or '"' in text)))


class _Words:
    """Collects words while text is added."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.pieces: list[str] = []

    def add(self, text: str) -> None:
        """Add what is split at blanks."""
        for character in text:
            if character in SPACES:
                self.end()
            else:
                self.pieces.append(character)

    def add_whole(self, text: str) -> None:
        """Add what is not split."""
        self.pieces.append(text)

    def end(self) -> None:
        if word := "".join(self.pieces):
            self.words.append(word)
        self.pieces = []


class _Reader:
    """One pass over one text. Every method reads from `at` on."""

    def __init__(self, lexer: Lexer, text: str, env: Mapping[str, str]) -> None:
        self.lexer = lexer
        self.keep_escapes = lexer.keep_escapes
        self.text = text
        self.env = env
        self.at = 0
        self.depth = 0
        self.size = 0
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        character = self.text[self.at : self.at + 1]
        self.at += 1
        return character

    def until(self, stop: str, *, keep_escapes: bool) -> tuple[str, list[str]]:
        """Read to the character `stop`, or to the end where it is none."""
        kept, self.keep_escapes = self.keep_escapes, keep_escapes
        result: list[str] = []
        words = _Words()
        while character := self.peek():
            if character == stop:
                self.at += 1
                self.keep_escapes = kept
                return "".join(result), words.words
            self.piece(character, result, words)
        words.end()
        if stop:
            raise Fault(f"unexpected end of statement while looking for matching {stop}")
        return "".join(result), words.words

    def piece(self, character: str, result: list[str], words: _Words) -> None:
        """Read a quoted text, a variable, an escape or one character."""
        if character == "$":
            value = self.dollar()
            result.append(value)
            words.add(value)
        elif self.lexer.quotes and character in "'\"":
            value = self.single_quoted() if character == "'" else self.double_quoted()
            result.append(value)
            words.add_whole(value)
        elif character == self.lexer.escape:
            self.at += 1
            value = (character if self.keep_escapes else "") + self.next()
            result.append(value)
            words.add_whole(value)
        else:
            self.at += 1
            result.append(character)
            words.add(character)

    def single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise Fault("unexpected end of statement while looking for matching single-quote")
        quoted = self.text[self.at : end + 1]
        self.at = end + 1
        return quoted if self.lexer.keep_quotes else quoted[1:-1]

    def double_quoted(self) -> str:
        self.at += 1
        result = []
        while (character := self.peek()) != '"':
            if not character:
                raise Fault("unexpected end of statement while looking for matching double-quote")
            if character == "$":
                result.append(self.dollar())
                continue
            self.at += 1
            if character == self.lexer.escape:
                if self.keep_escapes:
                    result.append(character)
                if self.peek() in {'"', "$", self.lexer.escape}:
                    character = self.next()
                elif not self.peek():
                    continue
            result.append(character)
        self.at += 1
        return '"' + "".join(result) + '"' if self.lexer.keep_quotes else "".join(result)

    def dollar(self) -> str:
        self.at += 1
        if self.peek() != "{":
            name = self.name()
            if not name:
                return "$"
            value = self.lookup(name)
            return f"${name}" if value is None and self.lexer.keep_unset else self.count(value or "")
        self.at += 1
        self.depth += 1
        if self.depth > _DEEPEST:
            raise Fault("substitutions are nested too deeply")
        value = self.braced()
        self.depth -= 1
        return self.count(value)

    def braced(self) -> str:
        if not self.peek():
            raise Fault("syntax error: missing '}'")
        if self.peek() in "{}:":
            raise Fault("syntax error: bad substitution")
        name = self.name()
        sign = self.next()
        if sign == "}":
            value = self.lookup(name)
            return f"${{{name}}}" if value is None and self.lexer.keep_unset else value or ""
        if sign == "/":
            return self.replaced(name)
        colon = sign == ":"
        if colon:
            sign = self.next()
        if not colon and sign not in {"+", "-", "?", "#", "%"}:
            raise Fault(f"unsupported modifier ({sign}) in substitution" if sign else "syntax error: missing '}'")
        word = self.to_brace(keep_escapes=sign in {"#", "%"})
        value = self.lookup(name)
        if value is None and self.lexer.keep_unset:
            return f"${{{name}{':' * colon}{sign}{word}}}"
        if sign in {"#", "%"}:
            return patterns.trimmed(value or "", sign, word)
        return _alternative(name, value, sign, word, empty_is_unset=colon)

    def to_brace(self, *, keep_escapes: bool, stop: str = "}") -> str:
        try:
            return self.until(stop, keep_escapes=keep_escapes)[0]
        except Fault as fault:
            if not self.peek():
                raise Fault(f"syntax error: missing '{stop}'" + " in ${}" * (stop == "/")) from fault
            raise

    def replaced(self, name: str) -> str:
        every = self.peek() == "/"
        if every:
            self.at += 1
        pattern = self.to_brace(keep_escapes=True, stop="/")
        replacement = self.to_brace(keep_escapes=True)
        value = self.lookup(name)
        if value is None and self.lexer.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        return patterns.replaced(value or "", pattern, replacement, every=every)

    def name(self) -> str:
        """Read a name: letters, digits and _, or digits alone, or one of the shell's own parameters."""
        start = self.at
        first = self.peek()
        if first.isdecimal():
            while self.peek().isdecimal():
                self.at += 1
        elif first and first in _SPECIAL:
            self.at += 1
        else:
            while (character := self.peek()) and (character.isalpha() or character.isdecimal() or character == "_"):
                self.at += 1
        return self.text[start : self.at]

    def lookup(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value

    def count(self, value: str) -> str:
        """Refuse what grows without bound: `ENV a=$a$a` line after line."""
        self.size += len(value)
        if self.size > _LARGEST:
            raise Fault("substitution makes more than 1 MiB of it")
        return value


def _alternative(name: str, value: str | None, sign: str, word: str, *, empty_is_unset: bool) -> str:
    missing = value is None or (empty_is_unset and not value)
    match sign:
        case "-":
            return word if missing else value or ""
        case "+":
            return "" if missing else word
        case "?" if missing:
            raise Fault(
                f"{name}: {word or ('is not allowed to be unset' if value is None else 'is not allowed to be empty')}"
            )
        case "?":
            return value or ""
        case _:
            raise Fault(f"unsupported modifier (:{sign}) in substitution" if sign else "syntax error: missing '}'")
