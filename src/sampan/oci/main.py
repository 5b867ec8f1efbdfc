"""`sampan-runtime [GLOBAL OPTIONS] COMMAND …`: from words to a command, and from its end to exit status and log.

Every command is a new interpreter: this imports nothing that `state`, `kill`, `start` and `delete` can do without. The
commands that put a process into a container go on behind a seal (`seal`).
"""

from __future__ import annotations

import gc
import os
import sys

from sampan.errors import Failed, InvalidInput, SampanError, from_os_error
from sampan.oci.options import Given, Option, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.store import Store

OPTIONS = (
    Option("root", "directory of the containers' state; it should be on a tmpfs"),
    Option("log", "file to write what goes wrong to, beside standard error"),
    Option("log-format", "text or json"),
    Option("debug", "write to the log what is done", "flag"),
    Option("systemd-cgroup", "take cgroupsPath as slice:prefix:name", "flag"),
    Option("cgroup-manager", "cgroupfs, systemd or disabled; crun's spelling of the option above"),
    Option("rootless", "taken for runc's sake: what is possible here is asked of the kernel"),
    Option("criu", "the criu program that checkpoint and restore use"),
    Option("help h ?", "print this", "flag"),
    Option("version v V", "print the versions", "flag"),
)
COMMANDS = {
    "checkpoint": "write a running container's processes to files, with criu",
    "create": "make a container, up to its program",
    "delete": "remove what is left of a container",
    "events": "print what happens in a container, and its statistics",
    "exec": "execute another program in a container",
    "features": "print what this runtime can do, as JSON",
    "kill": "send a signal to a container's first process",
    "list": "list the containers of this root",
    "pause": "freeze a container's processes",
    "ps": "list a container's processes",
    "restore": "make a container from what checkpoint wrote, with criu",
    "resume": "let a container's processes go on",
    "run": "make a container, start it, and remove it at its end",
    "spec": "write a configuration to begin with",
    "start": "let a created container execute its program",
    "state": "print a container's state, as JSON",
    "update": "change a container's limits",
}
_VALUES = {
    "log-format": ("text", "json"),
    "cgroup-manager": ("cgroupfs", "systemd", "disabled"),
    "rootless": ("auto", "true", "false"),
}
_SEALED = frozenset({"create", "exec", "run"})
_PASSING_ON = frozenset({"exec", "ps"})
"""What comes behind their ID is another program's."""
_EXEC_FAILED = 255
"""What runc exits with when an exec has not come to its program; the program's own statuses are below."""


class Invocation:
    """One command as it was called."""

    def __init__(self, options: Given, given: Given) -> None:
        self.options = options
        self.given = given

    @property
    def store(self) -> Store:
        from sampan.oci.store import Store

        return Store(self.options.value("root") or default_root())

    def id(self) -> str:
        """Return the only argument, a container's id."""
        if len(self.given.arguments) != 1:
            raise InvalidInput(f"exactly 1 argument is required, the container's id: {len(self.given.arguments)} given")
        return self.given.arguments[0]


def default_root() -> str:
    """Return where state is without --root: on the tmpfs of the system, or of the user."""
    run = os.environ.get("XDG_RUNTIME_DIR")
    return f"{run}/sampan-runtime" if run and os.geteuid() else "/run/sampan-runtime"


def main(*, behind: bool = False) -> int:
    """Do what `sys.argv` asks and end the process at once, without the interpreter's tidying up.

    `behind`: this is no first interpreter, which was started with all of `site`, but one behind the seal.
    """
    gc.disable()
    status = perform(sys.argv[1:], behind=behind)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or 1
    os._exit(status)


def perform(words: list[str], *, behind: bool = False) -> int:
    """Do what the words ask; return the exit status."""
    options = Given()
    name = ""
    try:
        options = parse(OPTIONS, words, interspersed=False)
        name, *rest = options.arguments or [""]
        if options.flag("version"):
            return _version()
        if not name or options.flag("help") or name in ("help", "h"):
            from sampan.oci.help import print_all

            return print_all(OPTIONS)
        if name not in COMMANDS:
            raise InvalidInput(f"No help topic for '{name}'", "sampan-runtime --help lists the commands")
        _check(options)
        if name in _SEALED and "--help" not in rest:
            _be_sealed(words, behind=behind)
        return _call(name, rest, options)
    except SampanError as e:
        return _complain(e, name, options)
    except OSError as e:
        return _complain(from_os_error(e), name, options)
    except KeyboardInterrupt:
        return 130
    except Exception as e:
        if options.flag("debug"):
            import traceback

            traceback.print_exception(e)
        return _complain(InvalidInput(f"this should not have happened: {type(e).__name__}: {e}"), name, options)


def _check(options: Given) -> None:
    for name, allowed in _VALUES.items():
        value = options.value(name)
        if value and value not in allowed:
            raise InvalidInput(f"invalid {name}: {value}", f"it is one of {', '.join(allowed)}")


def _be_sealed(words: list[str], *, behind: bool) -> None:
    from sampan.oci import seal

    if not seal.sealed():
        if behind:
            raise Failed("can't keep the interpreter out of the container's reach: it is writable behind its seal, too")
        seal.execute_again(words)
    seal.forget()


def _call(name: str, words: list[str], options: Given) -> int:
    module = __import__(f"sampan.oci.commands.{name}", fromlist=("OPTIONS",))
    known = (*module.OPTIONS, Option("help h ?", "print this", "flag"))
    given = parse(known, words, interspersed=name not in _PASSING_ON)
    if given.flag("help"):
        from sampan.oci.help import print_command

        return print_command(name, module.USAGE, module.OPTIONS)
    if options.flag("debug"):
        from sampan.oci.log import debug

        debug(f"{name} {' '.join(words)}", options)
    status: int = module.perform(Invocation(options, given))
    return status


def _complain(error: SampanError, name: str, options: Given) -> int:
    from sampan.oci.log import complain

    complain(error, name, options)
    return _EXEC_FAILED if name == "exec" else 1


def _version() -> int:
    from sampan import __version__
    from sampan.oci.version import OCI_VERSION

    sys.stdout.write(f"sampan-runtime version {__version__}\nspec: {OCI_VERSION}\n")
    return 0
