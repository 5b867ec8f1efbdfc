"""Blanks, as Go's parser of Dockerfiles has them; Python's `str.split` and `splitlines` know other ones."""

from __future__ import annotations

import re

SPACES = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""The characters of Unicode's White_Space property: Go's unicode.IsSpace."""

ASCII_SPACES = "\t\n\v\f\r "
"""Those around options, which Go's parser reads by bytes."""

BETWEEN_WORDS = re.compile(r"[\t\v\f\r ]+")
"""What separates an instruction from its words, and the words of COPY, EXPOSE, FROM, VOLUME."""


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}

NO_UTF8 = re.compile("[\ud800-\udfff]")
"""What stands for bytes that are no UTF-8: surrogates."""


def mended(text: str) -> str:
    """Put U+FFFD for each byte that is no UTF-8, so that the text can be written."""
    return NO_UTF8.sub("\ufffd", text)


def go_quoted(text: str) -> str:
    """Put a text into double quotes as Go's %q has it: strconv.Quote."""
    return '"' + "".join(map(go_quoted_character, text)) + '"'


def go_quoted_character(character: str) -> str:
    """Return one character as it is in quotes."""
    number = ord(character)
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8: surrogateescape
        return f"\\x{number - 0xDC00:02x}"
    short = f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
    return _ESCAPES.get(character, short)


def trim(text: str) -> str:
    """Take blanks away at both ends."""
    return text.strip(SPACES)
