"""`sampan VERB …`: from the words on the command line to the verb's function, and from what ends it to exit status.

Imports nothing that a verb does not need: a bare interpreter takes 13 ms, `socket`, `json`, `re` or `typing` as long
again. A test holds the list of what `run`, `exec`, `ps` and `start` import.
"""

from __future__ import annotations

import gc
import os
import sys

from sampan.cli.failure import ArgumentError, Exit, Failure, Unavailable, UsageError
from sampan.cli.flags import Flag, HelpAsked, parse
from sampan.cli.verbs import GROUPS, LATER, OTHER_NAMES, VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.command import Command

GLOBAL = (
    Flag("root", "string", "Directory of the instance: its store, state, socket and server (SAMPAN_ROOT)"),
    Flag("host", "list", "Socket of the engine: unix://PATH (DOCKER_HOST)", short="H"),
    Flag("config", "string", "Directory of config.json (DOCKER_CONFIG)"),
    Flag("debug", "bool", "Show where an unexpected error came from", short="D"),
    Flag("version", "bool", "Print the version and end", short="v"),
    Flag(
        "log-level", "string", "Level of what the client logs", short="l", default="info", unsupported="it logs nothing"
    ),
    Flag("context", "string", "Context", short="c", unsupported="name the engine with --host or --root"),
    Flag("tls", "bool", "Use TLS", unsupported="the engine is reached through its unix socket"),
    Flag("tlsverify", "bool", "Use TLS", unsupported="the engine is reached through its unix socket"),
    Flag("tlscacert", "string", "Use TLS", unsupported="the engine is reached through its unix socket"),
    Flag("tlscert", "string", "Use TLS", unsupported="the engine is reached through its unix socket"),
    Flag("tlskey", "string", "Use TLS", unsupported="the engine is reached through its unix socket"),
)

USAGE = "Usage:  sampan [OPTIONS] COMMAND [ARG...]"


def main() -> int:
    """Do what `sys.argv` asks and end the process at once, without the interpreter's tidying up."""
    gc.disable()  # a few milliseconds of life make no garbage worth looking for
    status = perform(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or 1
    os._exit(status)


def perform(words: list[str]) -> int:
    """Do what the words ask; return the exit status. Messages go to standard error, never a traceback."""
    debug, rest = False, list[str]()
    try:
        options, rest = parse(GLOBAL, words, interspersed=False)
        debug = options["debug"]
        return _dispatch(options.values, rest)
    except Exit as e:
        return e.status
    except HelpAsked:
        from sampan.cli.help import print_top

        return print_top()
    except KeyboardInterrupt:
        return 130
    except UsageError as e:
        return _complain(e, f"{USAGE}\n\nRun 'sampan --help' for more information")
    except Failure as e:
        return _complain(e)
    except BrokenPipeError:
        return 1
    except Exception as e:
        return _unforeseen(e, debug=debug, runs="run" in rest[:2])


def _dispatch(options: dict[str, object], rest: list[str]) -> int:
    if options["version"]:
        from sampan import __version__
        from sampan.cli.output import say

        say(f"sampan version {__version__}")
        return 0
    if not rest:
        raise HelpAsked
    name, words = rest[0], rest[1:]
    if name == "help":
        from sampan.cli.help import help_on

        return help_on(words)
    path = name
    module = VERBS.get(name)
    name = OTHER_NAMES.get(name, name)
    if module is None and name in GROUPS:
        path, module, words = _in_group(name, words)
    if module is None:
        raise _unknown(name, f"sampan {name}", (*VERBS, *GROUPS))
    return call(load(module, path), words, options)


def _in_group(group: str, words: list[str]) -> tuple[str, str, list[str]]:
    """Resolve `container ls`: return the whole path, the module, the words that are left."""
    verbs = GROUPS[group]
    if not words or words[0] in ("--help", "-h"):
        from sampan.cli.help import print_group

        raise Exit(print_group(group))
    name = words[0]
    if name.startswith("-"):
        error = UsageError(
            f"unknown flag: {name}" if name.startswith("--") else f"unknown shorthand flag: '{name[1]}' in {name}"
        )
        raise Exit(_complain(error, f"Usage:  sampan {group}\n\nRun 'sampan {group} --help' for more information"))
    if name not in verbs:
        unknown = _unknown(f"{group} {name}", f"sampan {group} {name}", verbs)
        raise Exit(_complain(unknown, f"Usage:  sampan {group}\n\nRun 'sampan {group} --help' for more information"))
    return f"{group} {name}", verbs[name], words[1:]


def load(module: str, path: str) -> Command:
    """Import a verb's module and return its command, which names itself by the path that was typed."""
    command: Command = __import__(f"sampan.cli.commands.{module}", fromlist=("COMMAND",)).COMMAND
    if command.path != path:
        command.usage = command.usage.replace(command.path, path, 1)
        command.path = path
    return command


def call(command: Command, words: list[str], options: dict[str, object]) -> int:
    """Parse a verb's words and do it; its own usage goes with its usage errors."""
    from sampan.cli.command import Call
    from sampan.cli.session import ServerError, Session

    usage = f"Usage:  sampan {command.usage}\n\nRun 'sampan {command.path} --help' for more information"
    session = Session(
        root=options["root"] or None,  # type: ignore[arg-type]
        host=_host(options["host"]),
        config=options["config"] or None,  # type: ignore[arg-type]
    )
    try:
        given, arguments = command.parse(words)
        asked = Call(command, session, given, arguments)
        if command.choosers and command.chooses(given):
            from sampan.cli.choosing import chosen

            asked.arguments = chosen(asked)
        return command.perform(asked)
    except HelpAsked:
        from sampan.cli.help import print_command

        return print_command(command)
    except UsageError as e:
        return _complain(e, usage)
    except ArgumentError as e:
        e.message = f"sampan: {e.message}"
        return _complain(e, usage)
    except ServerError as e:
        if command.path in ("run", "container run"):
            e.message = f"sampan: {e.message}"
            e.status = e.status if e.status != 1 else 125
        return _complain(e)
    finally:
        session.close()


def _host(given: object) -> str | None:
    assert isinstance(given, list)
    if len(given) > 1:
        raise Failure("Specify only one -H")
    return given[0] if given else None


def _unknown(name: str, full: str, words: object) -> Failure:
    first = name.rpartition(" ")[2]
    if name in LATER:
        return Unavailable(f"{name} is unsupported", LATER[name])
    from sampan.cli.nearest import nearest

    like = nearest(first, words)  # type: ignore[arg-type]
    return Failure(
        f"sampan: unknown command: {full}", f"did you mean {like}?" if like else "sampan --help lists the commands"
    )


def _complain(error: Failure, usage: str = "") -> int:
    from sampan.cli.output import warn

    text = error.message
    if error.hint:
        text += f"\n  hint: {error.hint}"
    if usage and not isinstance(error, Unavailable):
        text += f"\n\n{usage}"
    if text:
        try:
            warn(text)
        except SystemExit:  # nobody reads
            pass
    return error.status


def _unforeseen(error: Exception, *, debug: bool, runs: bool) -> int:
    """The client's own errors, and what nobody thought of: one line, and where it came from under --debug.

    `runs`: 1 would be the program's own, so it is 125.
    """
    from sampan.errors import SampanError, from_os_error

    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, OSError):
        error = from_os_error(error)
    if isinstance(error, SampanError):
        status = error.exit_status if runs else 1
        return _complain(Failure(f"sampan: {error.message}", error.hint, status))
    return _complain(
        Failure(
            f"sampan: this should not have happened: {type(error).__name__}: {error}",
            "sampan --debug VERB … shows where",
            125,
        )
    )
