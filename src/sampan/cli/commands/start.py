"""`sampan start`: start containers that were created or have ended, and perhaps attach."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import FILTER, LATEST, container, each
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.session import Session


def start(call: Call) -> int:
    """Start each container; with -a or -i, one only: carry its streams and return its exit status."""
    options = call.options
    if options["attach"] or options["interactive"]:
        if len(call.arguments) > 1:
            raise Failure("you cannot start and attach multiple containers at once")
        keys = options["detach-keys"]
        return attached(
            call.session, call.arguments[0], interactive=options["interactive"], keys=keys, signals=options["sig-proxy"]
        )
    failed: list[str] = []

    def start_one(name: str) -> None:
        failed.append(name)
        call.session.ask("POST", container(name, "/start")).read()
        failed.pop()

    each(call, start_one)
    if failed:
        raise Failure(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def attached(session: Session, name: str, *, interactive: bool, keys: str = "", signals: bool = True) -> int:
    """Start a container and carry its streams; return its exit status. `keys` are those that detach, as written."""
    from sampan.cli.signals import pass_signals_on
    from sampan.cli.stream import Conversation
    from sampan.cli.terminal import check_tty, converse_raw, detach_keys
    from sampan.cli.waiting import Waiting
    from sampan.client.wire import query

    inspected = session.ask("GET", container(name, "/json")).json()
    target = f"/containers/{inspected['Id']}"
    tty = inspected["Config"]["Tty"]
    stdin = interactive and inspected["Config"]["OpenStdin"]
    text, typed = detach_keys(session, keys)
    if tty:
        check_tty(wanted=stdin)
    if signals and not tty:
        pass_signals_on(session, inspected["Id"])
    parameters = query(stream=1, stdin=stdin, stdout=1, stderr=1, detachKeys=text)
    hijacked = session.hijack(f"{target}/attach{parameters}")
    removed = inspected["HostConfig"]["AutoRemove"]
    waiting = Waiting(session, target, "removed" if removed else "next-exit")
    session.ask("POST", f"{target}/start").read()
    talk = Conversation(hijacked, tty=tty, stdin=stdin, detach_keys=typed if tty else b"")
    if not tty:
        talk.run(waiting.fileno(), waiting.poll)
    elif not converse_raw(session, talk, f"{target}/resize", waiting):
        return 0
    return waiting.exit_status(streamed=True)


COMMAND = Command(
    "start [OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    start,
    flags=(
        Flag("attach", "bool", "Attach output and error, pass signals on", short="a"),
        Flag("checkpoint", "string", "Restore a checkpoint", unsupported="there are no checkpoints yet"),
        Flag("checkpoint-dir", "string", "Where checkpoints are", unsupported="there are no checkpoints yet"),
        Flag("detach-keys", "string", "Keys that detach, as in ctrl-p,ctrl-q"),
        Flag("interactive", "bool", "Attach input", short="i"),
        Flag("sig-proxy", "bool", "Pass signals on to a program without a terminal", default=True),
        Flag("all", "bool", "All containers, in place of names"),
        FILTER,
        LATEST,
    ),
    arguments=(1, None),
    choosers=("all", "filter", "latest"),
)
