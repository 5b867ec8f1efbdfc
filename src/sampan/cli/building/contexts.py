"""Where a build's files are, as the command line says it: PATH, URL or -, and --build-context.

A local directory is named by its path, with the device and inode that we see there: the engine reads it in place if it
sees the same one. An engine that does not is sent a tar of it (cli/building/sending).
"""

from __future__ import annotations

import os

from sampan.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

_MAGICS = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_BLOCK = 512
_NAMES = ("Dockerfile", "dockerfile", "Containerfile")


class Input:
    """The context, the Dockerfile, and what has to be sent after the request.

    `directory` is the local context, "" where there is none; `archive` the beginning of a tar on standard input.
    """

    __slots__ = ("archive", "context", "directory", "dockerfile", "ignore", "name")

    def __init__(self) -> None:
        self.context: Json | None = None
        self.directory = ""
        self.name = "Dockerfile"
        self.dockerfile: str | None = None
        self.ignore: str | None = None
        self.archive: bytes | None = None


def find(where: str, dockerfile: str) -> Input:
    """Return what a build is made of: the argument, and --file. Raises Failure in the words of Docker's client."""
    found = Input()
    if where == "-":
        if dockerfile == "-":
            raise Failure("invalid argument: can't use stdin for both build context and dockerfile")
        _from_input(found)
    elif is_git(where):
        found.context = {"kind": "git", "value": where}
    elif where.startswith(("http://", "https://")):
        found.context = {"kind": "url", "value": where}
    else:
        found.directory = where
        found.context = _directory(where)
    if dockerfile == "-":
        found.dockerfile = _read_all(0, "the Dockerfile on standard input")
    elif found.directory:
        _dockerfile(found, dockerfile)
    elif dockerfile:
        _elsewhere(found, dockerfile)
    return found


def named(text: str) -> tuple[str, Json]:
    """Read `NAME=VALUE` of --build-context."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise Failure(f"invalid context value: {text}, expected key=value")
    return name.lower(), _source(value)


def _source(value: str) -> Json:
    """Return what a named context is: an image, a layout, a repository, an archive or a directory."""
    if value.startswith("docker-image://"):
        return {"kind": "image", "value": value.removeprefix("docker-image://")}
    if value.startswith("oci-layout://"):
        path, mark, reference = _layout(value.removeprefix("oci-layout://"))
        return {"kind": "oci-layout", "value": os.path.abspath(path) + mark + reference}
    if is_git(value):
        return {"kind": "git", "value": value}
    if value.startswith(("http://", "https://")):
        return {"kind": "url", "value": value}
    return _directory(value)


def is_git(where: str) -> bool:
    """Tell whether Docker takes this for a git repository: moby, builder/remotecontext/urlutil."""
    if where.startswith(("git://", "ssh://", "git@")):
        return True
    if where.startswith("github.com/"):
        return not os.path.isdir(where)
    url = where.partition("#")[0]
    return where.startswith(("http://", "https://")) and url.endswith(".git")


def _layout(value: str) -> tuple[str, str, str]:
    for mark in ("@", ":"):
        path, found, rest = value.partition(mark) if mark == "@" else value.rpartition(mark)
        if found and "/" not in rest:
            return path, found, rest
    return value, "", ""


def _directory(path: str) -> Json:
    try:
        seen = os.stat(path)
    except OSError as e:
        cause = "not found" if isinstance(e, FileNotFoundError) else (e.strerror or "").lower()
        raise Failure(f"unable to prepare context: path {path!r} {cause}".replace("'", '"')) from None
    import stat

    if not stat.S_ISDIR(seen.st_mode):
        raise Failure(
            f"unable to prepare context: context must be a directory: {path}",
            f"an archive comes from standard input: sampan build - < {path}",
        )
    return {"kind": "directory", "value": os.path.realpath(path), "device": seen.st_dev, "inode": seen.st_ino}


def _dockerfile(found: Input, given: str) -> None:
    """Name the Dockerfile by its place in the context; one that is elsewhere is read here, with its .dockerignore."""
    path = given or _default(found.directory)
    path = path if given else os.path.join(found.directory, path)
    real = os.path.realpath(path)
    inside = os.path.relpath(real, os.path.realpath(found.directory))
    if not os.path.exists(real):
        raise Failure(
            f"failed to read dockerfile: open {given or 'Dockerfile'}: no such file or directory",
            "name it with -f" if not given else "-f is relative to here, not to the context",
        )
    if inside != ".." and not inside.startswith("../"):
        found.name = inside
    else:
        _elsewhere(found, path)


def _default(directory: str) -> str:
    return next((name for name in _NAMES if os.path.lexists(os.path.join(directory, name))), _NAMES[0])


def _elsewhere(found: Input, path: str) -> None:
    """Read a Dockerfile that is no part of the context. A path in a tar or repository is that of a file there."""
    if not found.directory and not os.path.exists(path):
        found.name = path
        return
    found.name = os.path.basename(path)
    found.dockerfile = _text(path)
    ignore = f"{path}.dockerignore"
    if os.path.exists(ignore):
        found.ignore = _text(ignore)


def _text(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise Failure(f"failed to read dockerfile: open {path}: {(e.strerror or '').lower()}") from None
    try:
        return _read_all(descriptor, path)
    finally:
        os.close(descriptor)


def _from_input(found: Input) -> None:
    """Tell a tar on standard input from a Dockerfile, as Docker does: by its first bytes."""
    if os.isatty(0):
        raise Failure("build from stdin, but stdin is a terminal", "sampan build - < Dockerfile")
    head = b""
    while len(head) < _BLOCK and (piece := os.read(0, _BLOCK - len(head))):
        head += piece
    if head.startswith(_MAGICS) or head[257:262] == b"ustar":
        found.archive = head
        found.context = {"kind": "tar"}
        return
    found.dockerfile = (head + _rest(0, "standard input")).decode("utf-8", "surrogateescape")


def _read_all(descriptor: int, what: str) -> str:
    return _rest(descriptor, what).decode("utf-8", "surrogateescape")


def _rest(descriptor: int, what: str) -> bytes:
    pieces = []
    try:
        while piece := os.read(descriptor, 1 << 16):
            pieces.append(piece)
    except OSError as e:
        raise Failure(f"can't read {what}: {(e.strerror or '').lower()}") from None
    return b"".join(pieces)
