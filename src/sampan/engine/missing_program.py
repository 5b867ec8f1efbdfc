"""Why a shell in a container could not run a program: what it said is read, and the file looked at by a worker.

The worker finds paths as the container does, and follows nothing out of its root: it is the one of `cp`.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING

from sampan.engine import archiving
from sampan.errors import NotFound, SampanError
from sampan.runtime import diagnose

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.docker import HostConfig
    from sampan.supervise.messages import PathFound

BY_SHELLS = frozenset({126, 127})
"""What a shell ends with where it could not run a program."""

_HEAD = 4096
_MOST_LINKS = 8
_MOST_DIRECTORIES = 32
# sh (busybox, dash), bash, env and others: "sh: x: not found", "/bin/sh: 1: x: not found", "bash: line 1: x: command
# not found", "env: 'python3\r': No such file or directory", "/entry.sh: line 2: /x: Permission denied"
_SAID = re.compile(
    r"^[^:\s]+: (?:exec: )?(?:(?:line )?\d+: )?(?:exec: )?['\u2018]?(?P<program>[^:'\u2019]+?)['\u2019]?: "
    r"(?:command )?(?P<why>not found|\S+: bad interpreter|[Nn]o such file or directory|[Pp]ermission denied|"
    r"[Ee]xec format error|cannot execute)"
)
# A shell reads what the kernel does not take as its own script: another machine's program, of which it says
# "/x: line 1: \x7fELF...: not found", or "/x: 1: Syntax error: "(" unexpected", where it ends with 2.
_READ_AS_SCRIPT = re.compile(r"^(?P<program>/[^:]+): (?:line )?1: (?:\W?ELF|[Ss]yntax error)")

# Others who start programs and say which: Python, Go, tini, Node.js.
_TOLD = re.compile(
    r"\[Errno 8\] Exec format error: '(?P<python>[^']+)'|fork/exec (?P<go>[^:]+): |"
    r'exec: "(?P<path>[^"]+)": executable file not found|'
    r"exec (?P<tini>\S+)(?: failed)?: (?:exec format error|no such file or directory|permission denied)|"
    r"spawn (?P<node>\S+) (?:ENOENT|EACCES|ENOEXEC)",
    re.IGNORECASE,
)


def named(output: tuple[str, ...], exit_code: int) -> str:
    """Return the program that a shell, or another one, has said it could not run, in its last lines; "" where none."""
    for line in reversed(output):
        if found := _READ_AS_SCRIPT.match(line) or (_SAID.match(line) if exit_code in BY_SHELLS else None):
            return found["program"].strip().replace("\\r", "\r")
        if told := _TOLD.search(line):
            return str(next(filter(None, told.groups())))
    return ""


def look_up(core: Core, container: Container, program: str) -> tuple[str, str] | None:
    """Return why it can't be run, and what to do; None where nothing is wrong with it that can be seen."""
    try:
        if "/" not in program:
            return _in_path(core, container, program)
        if not program.startswith("/"):
            program = os.path.join(container.body.working_dir or "/", program)
        program = os.path.normpath(program)
        return _at(core, container, program)
    except (SampanError, OSError):  # it may be being removed, or its files be out of reach
        return None


def _in_path(core: Core, container: Container, program: str) -> tuple[str, str] | None:
    if program.endswith("\r"):
        return (
            f"{program[:-1]} was asked for with a carriage return behind its name",
            "a script has Windows line endings: convert it with dos2unix, or set * text eol=lf in .gitattributes",
        )
    path = next((v for e in container.body.env or () if (v := e.removeprefix("PATH=")) != e), diagnose.DEFAULT_PATH)
    for directory in path.split(":")[:_MOST_DIRECTORIES]:
        try:
            _follow(core, container, f"{directory or '.'}/{program}")
        except NotFound:
            continue
        return _at(core, container, os.path.normpath(f"{directory or '.'}/{program}"))
    return (
        f"there is no program {program} in the container's PATH, {path}",
        f"install {program} in the image, or name a program that it has",
    )


def _at(core: Core, container: Container, path: str) -> tuple[str, str] | None:
    for target, options in _tmpfs(container.body.host_config):  # gone with the container
        if path.startswith(f"{target.rstrip('/')}/"):
            if "exec" in options:
                return None
            return f"{path} was on a tmpfs that is mounted noexec", f"run it with --tmpfs {target}:exec"
    try:
        real, found = _follow(core, container, path)
    except NotFound:
        return f"there is no file {path} in the container", "see what is there with sampan export"
    if stat.S_ISDIR(found.mode):
        return f"{path} is a directory", "name a program"
    if not stat.S_ISREG(found.mode):
        return f"{path} is no regular file", "name a program"
    if not found.mode & 0o111:
        return f"{path} is there, and its mode has no x", f"chmod +x {shlex.quote(path)} in the image"

    def exists(other: str) -> bool:
        try:
            _follow(core, container, other)
        except NotFound:
            return False
        return True

    said, hint = diagnose.describe(_head(core, container, real), os.uname().machine, exists)
    return (f"{path} is there, but {said}", hint) if said else None


def _tmpfs(config: HostConfig) -> Iterator[tuple[str, set[str]]]:
    """Yield where they are mounted, with their options."""
    for target, options in (config.tmpfs or {}).items():
        yield target, set(options.split(","))
    for mount in config.mounts or ():
        if mount.type == "tmpfs":
            given = mount.tmpfs_options.options if mount.tmpfs_options else None
            yield mount.target, {"=".join(words) for words in given or ()}


def _follow(core: Core, container: Container, path: str) -> tuple[str, PathFound]:
    """Return where a path leads in the end, and what is there. Raises NotFound."""
    for _ in range(_MOST_LINKS):
        found = archiving.stat_path(core, container, path)
        if not found.link_target:
            return path, found
        path = found.link_target
    raise NotFound(f"{path}: too many links")


class _Pieces:
    """A file to read from, of pieces."""

    def __init__(self, pieces: Generator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _head(core: Core, container: Container, path: str) -> bytes:
    """Read the beginning of a regular file out of the archive that `cp` would give."""
    with closing(archiving.read_path(core, container, path)) as pieces:
        try:
            with tarfile.open(fileobj=_Pieces(pieces), mode="r|") as tar:  # type: ignore[call-overload]
                member = tar.next()
                file = tar.extractfile(member) if member and member.isfile() else None
                return file.read(_HEAD) if file else b""
        except tarfile.TarError:
            return b""
