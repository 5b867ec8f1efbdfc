"""`--secret`: how a container gets a secret, as a file or as a variable. Pure.

Each use has a number, by which the container's own copy of the data is called: what becomes of the secret later is
nothing to it, as with Podman.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import InvalidInput
from sampan.spec.annotations import SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRECTORY = "/run/secrets"
"""Where in a container files are that have no place of their own."""

_OPTIONS = ("source", "type", "target", "uid", "gid", "mode")
_HINT = "write it as NAME[,type=mount|env][,target=PATH|VARIABLE][,uid=0][,gid=0][,mode=0444]"
_GREATEST_ID = (1 << 32) - 2
_GREATEST_MODE = 0o7777
_DIGITS = 10


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One of them: it has a `target`, a path in the container, or else a `variable`."""

    number: int
    secret: str
    target: str = ""
    variable: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = 0o444


def asked(annotations: Mapping[str, str] | None) -> tuple[Use, ...]:
    """Return what an annotation of a container asks for: the lines of SECRETS, each once."""
    text = (annotations or {}).get(SECRETS)
    lines = dict.fromkeys(text.split("\n")) if text else ()
    return tuple(_use(number, line) for number, line in enumerate(lines))


def _use(number: int, text: str) -> Use:
    options = _options(text)
    secret, kind = options["source"], options.get("type", "mount")
    if kind not in ("mount", "env"):
        raise _wrong(text, f"there is no type {kind}")
    if kind == "env":
        variable = options.get("target") or secret
        if "=" in variable:
            raise _wrong(text, f"a variable can't be called {variable!r}")
        if options.keys() & {"uid", "gid", "mode"}:
            raise _wrong(text, "a variable has no uid, gid or mode")
        return Use(number=number, secret=secret, variable=variable)
    return Use(
        number=number,
        secret=secret,
        target=posixpath.normpath(posixpath.join(DIRECTORY, options.get("target") or secret)),
        uid=_number(text, "uid", options.get("uid", "0")),
        gid=_number(text, "gid", options.get("gid", "0")),
        mode=_number(text, "mode", options.get("mode", "0444")),
    )


def _options(text: str) -> dict[str, str]:
    if "\0" in text:
        raise _wrong(text, "it contains a null byte")
    first, *rest = text.split(",")
    words = [first if "=" in first else f"source={first}", *rest]
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in _OPTIONS:
            raise _wrong(text, f"{word!r} is no option of it")
        found[name] = value
    if not found.get("source"):
        raise _wrong(text, "it names no secret")
    return found


def _number(text: str, option: str, digits: str) -> int:
    base, greatest = (8, _GREATEST_MODE) if option == "mode" else (10, _GREATEST_ID)
    good = digits.isascii() and digits.isdigit() and not (base == 8 and set(digits) & {"8", "9"})
    if not good or len(digits) > _DIGITS or int(digits, base) > greatest:
        raise _wrong(text, f"invalid {option} {digits[:_DIGITS]!r}")
    return int(digits, base)


def _wrong(text: str, cause: str) -> InvalidInput:
    return InvalidInput(f"can't use secret {text[:200]!r}: {cause}", _HINT)
