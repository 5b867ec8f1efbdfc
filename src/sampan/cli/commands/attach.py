"""`sampan attach`: our terminal or pipes become those of a container that runs."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import LATEST, container
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.stream import Conversation
from sampan.cli.waiting import Waiting
from sampan.client.wire import query


def attach(call: Call) -> int:
    """Attach until the program ends or the detach keys are typed; return its exit status."""
    session, options, name = call.session, call.options, call.arguments[0]
    inspected = session.ask("GET", container(name, "/json")).json()
    state = inspected["State"]
    if not state["Running"]:
        raise Failure("You cannot attach to a stopped container, start it first", f"sampan start -ai {name}")
    if state["Paused"]:
        raise Failure("You cannot attach to a paused container, unpause it first", f"sampan unpause {name}")
    if state["Restarting"]:
        raise Failure("You cannot attach to a restarting container, wait until it is running")
    tty = inspected["Config"]["Tty"]
    stdin = inspected["Config"]["OpenStdin"] and not options["no-stdin"]
    from sampan.cli.terminal import check_tty, detach_keys

    text, keys = detach_keys(session, options["detach-keys"])
    if tty:
        check_tty(wanted=stdin)
    target = f"/containers/{inspected['Id']}"
    return converse(call, target, tty=tty, stdin=stdin, keys=(text, keys))


def converse(call: Call, target: str, *, tty: bool, stdin: bool, keys: tuple[str, bytes]) -> int:
    """Carry the streams of a container that runs; 1 if the detach keys were typed, as Docker's client ends."""
    session = call.session
    if call.options["sig-proxy"] and not tty:  # as Docker: whoever closes a window means that, not the program in it
        from sampan.cli.signals import pass_signals_on

        pass_signals_on(session, target.rpartition("/")[2])
    parameters = query(stream=1, stdin=stdin, stdout=1, stderr=1, detachKeys=keys[0])
    hijacked = session.hijack(f"{target}/attach{parameters}")
    waiting = Waiting(session, target, "not-running")
    talk = Conversation(hijacked, tty=tty, stdin=stdin, detach_keys=keys[1] if tty else b"")
    if not tty:
        talk.run(waiting.fileno(), waiting.poll)
    else:
        from sampan.cli.terminal import converse_raw

        if not converse_raw(session, talk, f"{target}/resize", waiting, redraw=True):
            return 1
    return waiting.exit_status(streamed=True)


COMMAND = Command(
    "attach [OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    attach,
    flags=(
        Flag("detach-keys", "string", "Keys that detach, as in ctrl-p,ctrl-q"),
        Flag("no-stdin", "bool", "Don't attach standard input"),
        Flag("sig-proxy", "bool", "Pass signals on to a program without a terminal", default=True),
        LATEST,
    ),
    arguments=(1, 1),
    choosers=("latest",),
)
