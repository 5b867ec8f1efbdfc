"""`name=value` lists of ENV, LABEL and ARG: split at blanks outside quotes; quotes and variables stay in the words."""

from __future__ import annotations

from sampan.build.dockerfile.ast import Argument, Pair
from sampan.build.dockerfile.errors import Fault, quoted
from sampan.build.dockerfile.text import BETWEEN_WORDS, SPACES


def pairs(text: str, instruction: str, escape: str) -> tuple[Pair, ...]:
    """Read `name=value …`, or the old form of one `name value`: which of them it is, the first word tells."""
    words = quoted_words(text, escape)
    if not words:
        raise Fault(f"{instruction} requires at least one argument")
    if "=" not in words[0]:
        name, *rest = BETWEEN_WORDS.split(text, maxsplit=1)
        if not rest:
            raise Fault(f"{instruction} must have two arguments", name, f"{instruction} {name}=value")
        return (Pair(name=name, value=rest[0], legacy=True),)
    return tuple(_pair(word, instruction) for word in words)


def _pair(word: str, instruction: str) -> Pair:
    name, equals, value = word.partition("=")
    if not equals:
        cause = f"Syntax error - can't find = in {quoted(word)}. Must be of the form: name=value"
        raise Fault(cause, word, "put a value with blanks in it into quotes")
    if not name:
        raise Fault(f"{instruction} names can not be blank", word)
    return Pair(name=name, value=value)


def arguments(text: str, escape: str) -> tuple[Argument, ...]:
    """Read `name` or `name=default`, one or several."""
    words = quoted_words(text, escape)
    if not words:
        raise Fault("ARG requires at least one argument")
    return tuple(_argument(word) for word in words)


def _argument(word: str) -> Argument:
    name, equals, value = word.partition("=")
    if not name:
        raise Fault("ARG names can not be blank", word)
    return Argument(name=name, value=value if equals else None)


def quoted_words(text: str, escape: str) -> list[str]:
    """Split at blanks outside quotes.

    An escape character keeps the next one, except in single quotes; one at the end goes.
    """
    words: list[str] = []
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if not quote and character in SPACES:
            _end(words, word)
            continue
        if character == escape and quote != "'":
            if at == len(text):
                break
            character += text[at]
            at += 1
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        word.append(character)
    _end(words, word)
    return words


def _end(words: list[str], word: list[str]) -> None:
    if word:
        words.append("".join(word))
        word.clear()
