"""`sampan exec`: one more program in a container that runs."""

from __future__ import annotations

import time

from sampan.cli.command import Call, Command
from sampan.cli.each import LATEST, container
from sampan.cli.failure import Failure, not_of_run
from sampan.cli.flags import Flag
from sampan.cli.output import warn
from sampan.cli.session import ServerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.lending import Loan

_ASK_AGAIN_S = 0.1


def exec(call: Call) -> int:
    """Run it; return its exit status."""
    options, session = call.options, call.session
    tty, detach = options["tty"], options["detach"]
    if options["preserve-fds"]:
        from sampan.cli.lending import check

        check(options["preserve-fds"])
    try:
        body = _body(call)
    except Failure as e:
        raise not_of_run(e) from None
    if tty and not detach:
        from sampan.cli.terminal import check_tty, size

        check_tty(wanted=options["interactive"])
        body["ConsoleSize"] = list(size())
    keys = b""
    if tty or options["detach-keys"]:
        from sampan.cli.terminal import detach_keys

        body["DetachKeys"], keys = detach_keys(session, options["detach-keys"])
    id = session.ask("POST", container(call.arguments[0], "/exec"), body).json()["Id"]
    if options["explain"]:
        return _explained(call, id, keys if tty else b"")
    if detach:
        return _detached(call, id)
    return _talk(call, id, keys if tty else b"")


def _body(call: Call) -> dict[str, Any]:
    options = call.options
    attached = not options["detach"]
    body: dict[str, Any] = {
        "Cmd": call.arguments[1:],
        "AttachStdin": options["interactive"] and attached,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "Detach": options["detach"],
        "Tty": options["tty"],
        "User": options["user"],
        "WorkingDir": options["workdir"],
        "Privileged": options["privileged"],
    }
    if "env" in options or "env-file" in options:
        from sampan.cli.body import environment

        body["Env"] = environment(options)
    return body


def _explained(call: Call, id: str, keys: bytes) -> int:
    from sampan.cli.explain import FORMS, print_plan

    form = call.options["explain"]
    if form not in FORMS:
        raise Failure(f"sampan: invalid value for --explain: {form}", "text, sh or json", 125)
    print_plan(call.session, f"/exec/{id}", form)
    if form != "text":
        return 0
    if call.options["detach"]:
        return _detached(call, id)
    return _talk(call, id, keys)


def _detached(call: Call, id: str) -> int:
    loan = _lent(call)
    path = f"/exec/{id}/start{loan.parameters if loan else ''}"
    call.session.ask("POST", path, {"Detach": True, "Tty": call.options["tty"]}).read()
    return 0


def _lent(call: Call) -> Loan | None:
    """--preserve-fds. What is lent is taken only when the program runs: the loan is not ended before."""
    if not call.options["preserve-fds"]:
        return None
    from sampan.cli.lending import lend

    return lend(call.session, call.options)


def _talk(call: Call, id: str, keys: bytes) -> int:
    from sampan.cli.stream import Conversation

    session, tty = call.session, call.options["tty"]
    start: dict[str, Any] = {"Detach": False, "Tty": tty}
    if tty:
        from sampan.cli.terminal import size

        start["ConsoleSize"] = list(size())
    loan = _lent(call)
    try:
        hijacked = session.hijack(f"/exec/{id}/start{loan.parameters if loan else ''}", start)
    except ServerError as e:
        e.status = e.exit_status if e.exit_status in (126, 127) else 126 if "exec failed" in e.text else 1
        raise
    talk = Conversation(hijacked, tty=tty, stdin=call.options["interactive"], detach_keys=keys)
    if tty:
        from sampan.cli.terminal import converse_raw

        if not converse_raw(session, talk, f"/exec/{id}/resize"):
            return 1
    else:
        talk.run()
    return _exit_status(call, id)


def _exit_status(call: Call, id: str) -> int:
    """Return it; after a killed shim the stream has ended and the command may run on: its end is waited for."""
    told = False
    while True:
        answer = call.session.ask("GET", f"/exec/{id}/json").json()
        if not answer.get("Running"):
            return int(answer.get("ExitCode") or 0)
        if not told:
            warn("lost the command's output: its supervisor was killed; waiting for its end")
            told = True
        time.sleep(_ASK_AGAIN_S)


COMMAND = Command(
    "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    exec,
    flags=(
        Flag("detach", "bool", "Run it in the background", short="d"),
        Flag("detach-keys", "string", "Keys that detach, as in ctrl-p,ctrl-q"),
        Flag("env", "env", "Set an environment variable", short="e"),
        Flag("env-file", "list", "Read environment variables from a file, one a line"),
        Flag("explain", "optional", "Show each kernel step; =sh, =json: print, don't run"),
        Flag("interactive", "bool", "Keep standard input open", short="i"),
        Flag("preserve-fds", "int", "Give it so many open files, from descriptor 3 on", default=0),
        Flag("privileged", "bool", "Give the command all capabilities"),
        Flag("tty", "bool", "Give it a terminal", short="t"),
        Flag("user", "string", "User and group, by name or number: USER[:GROUP]", short="u"),
        Flag("workdir", "string", "Working directory in the container", short="w"),
        LATEST,
    ),
    arguments=(2, None),
    choosers=("latest",),
    interspersed=False,
)
