"""Ids, digests and names: what they look like, and how they are made."""

from __future__ import annotations

import os
import re

from sampan.errors import InvalidInput

ID_LENGTH = 64
"""Hexadecimal digits of a container's id, as Docker has it."""

SHORT = 12
"""Digits that tables show."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")


def new_id() -> str:
    """Return 64 random hexadecimal digits whose short form is never a number alone.

    A host name of digits only is read as an address by some programs, so Docker avoids it as well.
    """
    while True:
        id = os.urandom(ID_LENGTH // 2).hex()
        if not id[:SHORT].isdecimal():
            return id


def short(id: str) -> str:
    """Return the 12 digits that tables show, without the digest's algorithm."""
    return id.removeprefix("sha256:")[:SHORT]


def check_name(name: str) -> str:
    """Return a container's name without its leading slash, or raise InvalidInput."""
    bare = name.removeprefix("/")
    if not _NAME.fullmatch(bare):
        raise InvalidInput(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            "two characters at least, and a letter or digit first",
        )
    return bare


def is_digest(text: str) -> bool:
    """Tell whether `text` is `sha256:` or `sha512:` and its hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: str) -> str:
    """Return the digest as it is, or raise InvalidInput: a digest becomes a file's name."""
    if not is_digest(text):
        raise InvalidInput(f"can't use digest {text[:100]!r}: it is no sha256 or sha512 digest")
    return text
