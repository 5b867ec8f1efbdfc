"""`sampan run`: create, attach, start, carry the streams, end as the program ended."""

from __future__ import annotations

import os

from sampan.cli.body import body_of
from sampan.cli.command import Call, Command
from sampan.cli.commands.create import create_container
from sampan.cli.failure import Failure
from sampan.cli.options import RUN
from sampan.cli.output import say
from sampan.cli.session import ServerError, Session
from sampan.cli.waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(call: Call) -> int:
    """Run a program in a new container; return its exit status, or that of Docker's client."""
    options = call.options
    body = body_of(options, call.arguments[0], call.arguments[1:])
    tty = options["tty"]
    if options["preserve-fds"] or "LISTEN_FDS" in os.environ:
        from sampan.cli.lending import check, take_sockets

        take_sockets(options)
        check(options["preserve-fds"], explained=options["explain"] == "text")
    if tty:
        _prepare_terminal(body, detached=options["detach"])
    if "sdnotify" in options:
        from sampan.cli.sdnotify import bind

        bind(options["sdnotify"], body, detached=options["detach"])
    keys = _detach_keys(call)
    id = _created(call, body)
    if options["explain"] in ("sh", "json"):
        from sampan.cli.explain import print_and_remove

        return print_and_remove(call.session, id, options["explain"])
    if options["detach"]:
        return _in_background(call, id)
    return _in_foreground(call, id, body, keys)


def _created(call: Call, body: dict[str, Any]) -> str:
    """Create the container; whatever is in the way ends us with 125, for 1 would be the program's own."""
    try:
        return create_container(call.session, call.options, body)
    except ServerError:
        raise
    except Failure as e:
        e.message = f"sampan: {e.message.removeprefix('sampan: ')}"
        e.status = 125
        raise


def _prepare_terminal(body: dict[str, Any], *, detached: bool) -> None:
    """The program gets a terminal of our size; our input must be one as well if it is to be typed into."""
    from sampan.cli.terminal import check_tty, size

    if not detached:
        check_tty(wanted=body["AttachStdin"])
    body["HostConfig"]["ConsoleSize"] = list(size())


def _detach_keys(call: Call) -> tuple[str, bytes]:
    if not call.options["tty"] and not call.options["detach-keys"]:
        return "", b""
    from sampan.cli.terminal import detach_keys

    try:
        text, keys = detach_keys(call.session, call.options["detach-keys"])
    except Failure as e:
        e.status = 125
        raise
    return text, keys if call.options["tty"] else b""


def _in_background(call: Call, id: str) -> int:
    _start(call, id)
    say(id)
    return 0


def _in_foreground(call: Call, id: str, body: dict[str, Any], keys: tuple[str, bytes]) -> int:
    session, options = call.session, call.options
    if options["sig-proxy"]:
        from sampan.cli.signals import pass_signals_on

        pass_signals_on(session, id)
    if not (body["AttachStdin"] or body["AttachStdout"] or body["AttachStderr"]):
        return _in_background(call, id)
    from sampan.cli.stream import Conversation
    from sampan.client.wire import query

    attach = query(
        stream=1,
        stdin=body["AttachStdin"],
        stdout=body["AttachStdout"],
        stderr=body["AttachStderr"],
        detachKeys=keys[0],
    )
    hijacked = session.hijack(f"/containers/{id}/attach{attach}")
    waiting = Waiting(session, f"/containers/{id}", "removed" if options["rm"] else "next-exit")
    _start(call, id)
    talk = Conversation(hijacked, tty=options["tty"], stdin=body["AttachStdin"], detach_keys=keys[1])
    if not options["tty"]:
        talk.run(waiting.fileno(), waiting.poll)
        return waiting.exit_status(streamed=True)
    from sampan.cli.terminal import converse_raw

    if not converse_raw(session, talk, f"/containers/{id}/resize", waiting):
        return 0
    return waiting.exit_status(streamed=True)


def _start(call: Call, id: str) -> None:
    """Start it; a program that can't be started ends us with 127 or 126, and leaves no container behind under --rm."""
    try:
        if call.options["explain"]:
            from sampan.cli.explain import start_explained

            start_explained(call.session, id)
        elif call.options["preserve-fds"]:
            from sampan.cli.lending import lend

            loan = lend(call.session, call.options)
            call.session.ask("POST", f"/containers/{id}/start{loan.parameters}").read()
            loan.end()
        else:
            call.session.ask("POST", f"/containers/{id}/start").read()
    except ServerError as e:
        if call.options["rm"]:
            _remove(call.session, id)
        raise _not_started(e) from None
    if "sdnotify" in call.options:
        from sampan.cli.sdnotify import started

        started(call.session, id, call.options["sdnotify"])


def _remove(session: Session, id: str) -> None:
    """The engine removes it as well; whoever comes second finds nothing."""
    try:
        session.ask("DELETE", f"/containers/{id}?v=1&force=1").read()
    except ServerError:
        pass


def _not_started(error: ServerError) -> Failure:
    status = error.exit_status
    if not status:
        text = error.text
        if "executable file not found" in text or "no such file or directory" in text:
            status = 127
        elif any(
            cause in text for cause in ("permission denied", "not a directory", "is a directory", "exec format error")
        ):
            status = 126
        else:
            status = 125
    error.status = status
    return error


COMMAND = Command(
    "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    run,
    flags=RUN,
    arguments=(1, None),
    interspersed=False,
)
