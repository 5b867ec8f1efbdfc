"""The words in which Docker's daemon passes on what its OCI runtime says of a start or an exec that failed.

Scripts look for them: `OCI runtime`, `unable to start container process`, and what follows. containerd puts `: unknown`
behind what it has no class for; Docker puts an explanation behind that, and so do we. moby, daemon/errors.go.
"""

from __future__ import annotations

import re

from sampan.errors import CommandNotFound, NotExecutable, SampanError

_EXEC = "OCI runtime exec failed: exec failed: "
_START = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
)
_PROCESS = "unable to start container process: "
_INIT = "error during container init: "
_UNKNOWN = ": unknown"
# What runc says of a program, and what runtime.diagnose adds to it.
_PROGRAM = re.compile(
    r'(exec: "(.*?)": (?:stat \2: |is a directory: )?(?:executable file not found in \$PATH|[a-z ]+))(: .*)?', re.DOTALL
)
_CHANGES_DIRECTORY = "chdir to cwd ("
_OF_THE_DAEMON = ("unable to find user ", "unable to find group ", "uids and gids must be ")
"""What Docker's daemon finds out by itself, before it asks the runtime."""


def of_start(error: SampanError) -> SampanError:
    """Return what a container's process could not do before it was the program, as Docker says it."""
    return _said(error, _START)


def of_exec(error: SampanError) -> SampanError:
    """Return the same of an exec's process."""
    return _said(error, _EXEC)


def refused_directory() -> SampanError:
    """Return what is said of an exec whose working directory is a relative one."""
    return NotExecutable(f"{_EXEC}Cwd must be an absolute path{_UNKNOWN}", "begin it with a slash")


def _said(error: SampanError, prefix: str) -> SampanError:
    message, more = error.message, ""
    if message.startswith(_OF_THE_DAEMON):
        return error
    if isinstance(error, CommandNotFound | NotExecutable) and (found := _PROGRAM.fullmatch(message)):
        message, more = found[1], found[3] or ""
    elif not message.startswith(_CHANGES_DIRECTORY):
        message = f"{_INIT}{message}"
    return type(error)(f"{prefix}{_PROCESS}{message}{_UNKNOWN}{more}", error.hint)


def cause_in(message: str) -> str:
    """Return a start's failure without these words."""
    if not message.startswith(_START):
        return message
    said = message.removeprefix(_START).removeprefix(_PROCESS)
    if found := _PROGRAM.fullmatch(said):
        return found[1] + found[3].removeprefix(_UNKNOWN)
    return said.removeprefix(_INIT).removesuffix(_UNKNOWN)
