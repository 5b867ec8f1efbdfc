"""Files of environment variables and of labels: one a line, `#` for comments, no quoting; docker/cli, opts/file.go."""

from __future__ import annotations

import os

from sampan.cli.failure import Failure

_WHITE = " \t"


def read_environment(path: str) -> list[str]:
    """Return the `NAME=value` lines; a name alone takes this process's value, and is left out where it has none."""
    variables = []
    for name, equals, value in _lines(path, "variable", "variable name", "env file"):
        if equals:
            variables.append(f"{name}={value}")
        elif name in os.environ:
            variables.append(f"{name}={os.environ[name]}")
    return variables


def read_labels(path: str) -> dict[str, str]:
    """Return the labels of a file; a name without a value is none, as for Docker's client."""
    return {name: value for name, equals, value in _lines(path, "label", "label name", "label file") if equals}


def _lines(path: str, noun: str, name_noun: str, kind: str) -> list[tuple[str, str, str]]:
    try:
        with open(path, "rb") as f:
            raw = f.read()
    except IsADirectoryError:
        raise _bad(kind, path, f"read {path}: is a directory") from None
    except OSError as e:
        raise Failure(f"sampan: open {path}: {(e.strerror or '').lower()}", status=125) from None
    found = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            text = line.decode().lstrip(_WHITE)
        except UnicodeDecodeError:
            shown = " ".join(str(byte) for byte in line)
            raise _bad(kind, path, f"invalid utf8 bytes at line {number}: [{shown}]") from None
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if any(c in name for c in _WHITE):
            raise _bad(kind, path, f"{noun} '{name}' contains whitespaces")
        if not name:
            raise _bad(kind, path, f"no {name_noun} on line '{text}'")
        found.append((name, equals, value))
    return found


def _bad(kind: str, path: str, cause: str) -> Failure:
    return Failure(f"sampan: invalid {kind} ({path}): {cause}", status=125)
