"""`sampan build`: an image from a Dockerfile."""

from __future__ import annotations

import os

from sampan.cli.building.flags import FLAGS
from sampan.cli.command import Call, Command
from sampan.cli.failure import Exit, Failure
from sampan.cli.output import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from sampan.cli.building.contexts import Input
    from sampan.cli.building.plain import Plain
    from sampan.cli.building.rawjson import RawJson
    from sampan.cli.building.terminal import Terminal
    from sampan.cli.building.trace import Trace
    from sampan.client.wire import Response

    Json = dict[str, Any]
    Screen = Plain | Terminal | RawJson

_TYPE = "application/vnd.sampan.build"


def build(call: Call) -> int:
    """Send the request, show what happens, receive the outputs; print the id under --quiet."""
    from sampan.cli.building import contexts, outputs
    from sampan.cli.building.request import request_of
    from sampan.cli.session import ServerError

    mode = _mode(call)
    try:
        found = contexts.find(call.arguments[0], call.options["file"])
        request = request_of(call, found)
        for output in request.get("outputs", ()):
            outputs.check(output)
        answer = _ask(call, found, request, mode)
    except ServerError as e:
        raise Failure(f"ERROR: failed to build: failed to solve: {e.text}", e.hint) from None
    except Failure as e:
        if e.status == 1:
            e.message = f"ERROR: failed to build: {e.message}"
        raise
    trace = _shown(call, answer, request, mode)
    if trace.failure is not None:
        return _failed(call, trace, found.name)
    if request.get("check"):
        if not trace.warnings:
            say("Check complete, no warnings found.")
        return 1 if trace.warnings else 0
    from sampan.cli.building.results import tell

    tell(call, trace, request)
    return 0


def _mode(call: Call) -> str:
    mode = "quiet" if call.options["quiet"] else call.options["progress"] or "auto"
    if mode == "auto":
        return "tty" if os.isatty(2) and os.environ.get("TERM") != "dumb" else "plain"
    if mode not in ("plain", "quiet"):  # the module draws bars, too, which a build has none of
        from sampan.cli.progress import check_mode

        return check_mode(mode)
    return str(mode)


def _screen(mode: str) -> Callable[[Trace], Screen]:
    """Return what shows a build."""
    if mode == "tty":
        from sampan.cli.building.terminal import Terminal

        return Terminal
    if mode == "rawjson":
        from sampan.cli.building.rawjson import RawJson

        return RawJson
    from sampan.cli.building.plain import Plain, Quiet

    return Quiet if mode == "quiet" else Plain


def _get_ready(mode: str) -> None:
    """Import what shows the answer. The engine works already: where all is cached that takes it no longer."""
    from sampan.cli.building import receiving, results  # noqa: F401

    _screen(mode)


def _ask(call: Call, found: Input, request: Json, mode: str) -> Response:
    """Send the request; a context on standard input follows it, and one that the engine doesn't see."""
    from sampan.cli.building import sending
    from sampan.cli.session import ServerError

    if found.archive is not None:
        return _post(call, request, sending.rest_of_input(found.archive), mode)
    try:
        return _post(call, request, iter(()), mode)
    except ServerError as e:
        if not found.directory or e.http_status != 409 or "can't see" not in e.text:
            raise
    pieces = sending.directory(found.directory, found.name, compress=call.options["compress"])
    return _post(call, {**request, "context": {"kind": "tar"}}, pieces, mode)


def _post(call: Call, request: Json, archive: Iterator[bytes], mode: str) -> Response:
    from sampan.client.jsontext import dumps

    def pieces() -> Iterator[bytes]:
        yield f"{dumps(request)}\n".encode("utf-8", "surrogateescape")
        _get_ready(mode)
        yield from archive

    return call.session.ask("POST", "/sampan/build", pieces(), {"Content-Type": _TYPE})


def _shown(call: Call, answer: Response, request: Json, mode: str) -> Trace:
    """Show the events as they come, and write outputs as they come."""
    from sampan.cli.building import outputs
    from sampan.cli.building.receiving import Answer
    from sampan.cli.building.trace import Trace

    wanted = request.get("outputs", ())
    screen = _screen(mode)(Trace(stored=not wanted or any(output["type"] == "image" for output in wanted)))
    received = Answer(answer.pieces())
    screen.start()
    try:
        for event in received.events():
            if event["event"] == "OutputBegan":
                output = wanted[event["number"]]
                step = {"step": -2 - event["number"]}
                screen.take({**step, "event": "StepBegan", "text": outputs.title(output)})
                outputs.write(output, received.frames())
                screen.take({**step, "event": "StepEnded"})
            else:
                screen.take(event)
    except KeyboardInterrupt:
        call.session.close()  # the engine stops what it does for us
        raise Exit(130) from None
    finally:
        screen.finish()
        if screen.trace.warnings and mode not in {"quiet", "rawjson"}:
            from sampan.cli.building import lint

            lint.report(screen.trace) if request.get("check") else lint.summary(screen.trace)
    return screen.trace


def _failed(call: Call, trace: Trace, dockerfile: str) -> int:
    from sampan.cli.building.failed import explain

    assert trace.failure is not None
    explain(trace.failure, dockerfile, quiet=bool(call.options["quiet"]))
    if trace.failure.get("container"):
        from sampan.cli.building.failed import open_shell

        open_shell(call, trace.failure)
    return 1


COMMAND = Command(
    "build [OPTIONS] PATH | URL | -",
    "Build an image from a Dockerfile",
    build,
    flags=FLAGS,
    arguments=(1, 1),
)
