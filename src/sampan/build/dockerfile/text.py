"""Blanks, as Go's parser of Dockerfiles has them; Python's `str.split` and `splitlines` know other ones."""

from __future__ import annotations

import re

SPACES = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""The characters of Unicode's White_Space property: Go's unicode.IsSpace."""

ASCII_SPACES = "\t\n\v\f\r "
"""Those around options, which Go's parser reads by bytes."""

BETWEEN_WORDS = re.compile(r"[\t\v\f\r ]+")
"""What separates an instruction from its words, and the words of COPY, EXPOSE, FROM, VOLUME."""


def trim(text: str) -> str:
    """Take blanks away at both ends."""
    return text.strip(SPACES)
