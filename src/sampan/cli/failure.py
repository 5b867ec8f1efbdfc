"""What ends a command: the message, the hint and the exit status that it leaves.

The command line does not use `sampan.errors` here: what the engine says comes as text through its API.
"""

from __future__ import annotations


class Failure(Exception):
    """Print `message` as it is (and `hint`), end with `status`."""

    def __init__(self, message: str, hint: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.status = status


def not_of_run(error: Failure) -> Failure:
    """Return what `run` ends with 125 for as another verb says it: 1, and without the program's name."""
    return Failure(error.message.removeprefix("sampan: "), error.hint)


class UsageError(Failure):
    """A flag is unknown or has a bad value: the message, then the verb's usage; 125 as Docker's client has it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, 125)


class ArgumentError(Failure):
    """Too few or too many arguments: named `sampan: 'sampan stop' requires …`, and the usage; 1 in Docker's client."""


class Unavailable(Failure):
    """Docker has it and sampan has not, or not yet."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"sampan: {message}", hint, 125)


class Exit(Exception):
    """End with `status` and say nothing more."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def quoted(text: str) -> str:
    """Return `text` as Go's %q shows it."""
    out = []
    for c in text:
        if c in '"\\':
            out.append("\\" + c)
        elif c.isprintable():
            out.append(c)
        else:
            known = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x00": "\\x00"}
            out.append(known.get(c) or (f"\\x{ord(c):02x}" if ord(c) < 128 else f"\\u{ord(c):04x}"))
    return '"' + "".join(out) + '"'
