"""The /containers handlers: read the parameters, call the engine's verb, answer in Docker's form."""

from __future__ import annotations

import struct
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from sampan.api import versions
from sampan.api.call import JSON, MULTIPLEXED, RAW
from sampan.engine.requests import AttachQuery, CommitQuery, LogsQuery
from sampan.errors import InvalidInput, SampanError
from sampan.http11.websocket import BINARY, TEXT
from sampan.spec import docker

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.api.call import Call
    from sampan.engine.requests import LogStream


def list_containers(call: Call) -> None:
    """GET /containers/json."""
    call.answer(
        call.engine.list(
            all=call.flag("all"), limit=call.integer("limit") or 0, size=call.flag("size"), filters=call.filters()
        )
    )


def create(call: Call) -> None:
    """POST /containers/create."""
    body = call.body(docker.ContainerCreate)
    if body == docker.ContainerCreate():
        raise InvalidInput("config cannot be empty in order to create a container")
    call.answer(call.engine.create(call.text("name") or None, body, call.text("platform") or None), 201)


def inspect(call: Call) -> None:
    """GET /containers/{id}/json."""
    call.answer(call.engine.inspect(call.path["id"], size=call.flag("size")))


def why(call: Call) -> None:
    """GET /sampan/containers/{id}/why."""
    call.answer(call.engine.why(call.path["id"]))


def top(call: Call) -> None:
    """GET /containers/{id}/top."""
    call.answer(call.engine.top(call.path["id"], call.text("ps_args") or None))


def changes(call: Call) -> None:
    """GET /containers/{id}/changes: an array that may be long."""
    pieces = call.engine.changes(call.path["id"])
    stream = call.stream(JSON)
    for piece in pieces:
        stream.write(piece)
    stream.end()


def export(call: Call) -> None:
    """GET /containers/{id}/export: a tar, begun when the first of it is there."""
    with closing(call.engine.export(call.path["id"])) as pieces:
        piece = next(pieces)
        stream = call.stream("application/octet-stream")
        stream.write(piece)
        for piece in pieces:
            stream.write(piece)
        stream.end()


def commit(call: Call) -> None:
    """POST /commit: an image of a container."""
    _commit(call, _commit_query(call))


def commit_more(call: Call) -> None:
    """POST /sampan/commit: the same with what Docker has not: `squash`, and `epoch` of SOURCE_DATE_EPOCH."""
    epoch_s = call.integer("epoch")
    if epoch_s is not None and not 0 <= epoch_s < 1 << 33:
        raise InvalidInput(f"invalid value {epoch_s} of the parameter epoch: it must be seconds since 1970")
    _commit(call, msgspec.structs.replace(_commit_query(call), squash=call.flag("squash"), epoch_s=epoch_s))


def _commit_query(call: Call) -> CommitQuery:
    repository, tag = call.text("repo"), call.text("tag")
    return CommitQuery(
        reference=f"{repository}:{tag}" if repository and tag else repository,
        author=call.text("author"),
        comment=call.text("comment"),
        pause=call.flag("pause", default=True),
        changes=call.texts("changes"),
    )


def _commit(call: Call, query: CommitQuery) -> None:
    given = call.body(docker.ContainerConfig)
    id = call.engine.commit(call.text("container"), query, given if given != docker.ContainerConfig() else None)
    call.answer(docker.IdResponse(id=id), 201)


def start(call: Call) -> None:
    """POST /containers/{id}/start, of which 304 says that it was running."""
    keys, lent = call.text("detachKeys") or None, call.text("descriptors")
    started = call.engine.start(call.path["id"], detach_keys=keys, lent=lent)
    call.done(204 if started else 304)


def stop(call: Call) -> None:
    """POST /containers/{id}/stop, of which 304 says that it was not running."""
    stopped = call.engine.stop(call.path["id"], call.integer("t"), call.text("signal") or None, call.sender("stop"))
    call.done(204 if stopped else 304)


def restart(call: Call) -> None:
    """POST /containers/{id}/restart."""
    call.engine.restart(call.path["id"], call.integer("t"), call.text("signal") or None, call.sender("restart"))
    call.done()


def kill(call: Call) -> None:
    """POST /containers/{id}/kill."""
    call.engine.kill(call.path["id"], call.text("signal") or None, call.sender("kill"))
    call.done()


def pause(call: Call) -> None:
    """POST /containers/{id}/pause."""
    call.engine.pause(call.path["id"])
    call.done()


def unpause(call: Call) -> None:
    """POST /containers/{id}/unpause."""
    call.engine.unpause(call.path["id"])
    call.done()


def rename(call: Call) -> None:
    """POST /containers/{id}/rename."""
    name = call.text("name")
    if not name:
        raise InvalidInput("Neither old nor new names may be empty")
    call.engine.rename(call.path["id"], name)
    call.done()


def remove(call: Call) -> None:
    """DELETE /containers/{id}, with `link` of one that is named as CONTAINER/ALIAS."""
    force, ref = call.flag("force"), "/".join(call.path.values())
    if call.flag("link"):
        call.engine.unlink(ref)
    else:
        by = call.sender("remove") if force else None
        call.engine.remove(ref, force=force, volumes=call.flag("v"), by=by)
    call.done()


def resize(call: Call) -> None:
    """POST /containers/{id}/resize."""
    rows, columns = window(call)
    call.engine.resize(call.path["id"], rows, columns)
    call.done(200)


def window(call: Call) -> tuple[int, int]:
    """Return the rows and columns that a resize gives."""
    rows, columns = call.integer("h"), call.integer("w")
    if rows is None or columns is None or not (0 <= rows < 1 << 16 and 0 <= columns < 1 << 16):
        raise InvalidInput("invalid size of the terminal: h and w must be from 0 to 65535")
    return rows, columns


CONDITIONS = ("not-running", "next-exit", "removed")


def wait(call: Call) -> None:
    """POST /containers/{id}/wait: the head at once, so that the client may go on to start it, the status at the end."""
    condition = call.text("condition") if call.version >= versions.EARLY_WAIT_HEADERS else ""
    if condition and condition not in CONDITIONS:
        raise InvalidInput(f'invalid condition: "{condition[:100]}"')
    lines = call.lines()
    leave: list[Callable[[], None]] = []

    def begun(give_up: Callable[[], None]) -> None:
        leave.append(give_up)
        if call.version >= versions.EARLY_WAIT_HEADERS:
            lines.begin()

    with call.if_client_leaves(lambda: [give_up() for give_up in leave]):
        result = call.engine.wait(call.path["id"], condition or CONDITIONS[0], begun)
    lines.write(result)
    lines.end()


def logs(call: Call) -> None:
    """GET /containers/{id}/logs: raw with a terminal, else each line behind a header that names its stream."""
    _logs(call, _lines_framed)


def logs_gathered(call: Call) -> None:
    """GET /sampan/containers/{id}/logs: the same, but a header may be that of many lines."""
    _logs(call, _framed)


def _logs(call: Call, framed: Callable[[str, bytes], bytes]) -> None:
    query = LogsQuery(
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        follow=call.flag("follow"),
        timestamps=call.flag("timestamps"),
        details=call.flag("details"),
        since_ns=call.nanoseconds("since") or 0,
        until_ns=call.nanoseconds("until") or 0,
        tail=_tail(call.text("tail")),
    )
    if not (query.stdout or query.stderr):
        raise InvalidInput("Bad parameters: you must choose at least one stream")
    log = call.engine.logs(call.path["id"], query)
    try:
        with call.if_client_leaves(log.close):
            _send_log(call, log, framed)
    finally:
        log.close()


def _tail(text: str) -> int | None:
    """Docker takes everything that is not a number as "all", and a negative number too."""
    return int(text) if text.isdecimal() and len(text) < 10 else None


STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}

_header = struct.Struct(">BxxxL").pack


def _framed(stream: str, data: bytes) -> bytes:
    return _header(STREAMS[stream], len(data)) + data


def _lines_framed(stream: str, data: bytes) -> bytes:
    """Each line is a message, as in Docker: clients take them one by one."""
    number = STREAMS[stream]
    lines = data.split(b"\n")
    last = lines.pop()
    parts = [b"%b%b\n" % (_header(number, len(line) + 1), line) for line in lines]
    if last:
        parts.append(_header(number, len(last)) + last)
    return b"".join(parts)


def _send_log(call: Call, log: LogStream, framed: Callable[[str, bytes], bytes]) -> None:
    newer = call.version >= versions.MULTIPLEXED_CONTENT_TYPE
    stream = call.stream(MULTIPLEXED if newer and not log.tty else RAW)
    for name, data in log:
        stream.write(data if log.tty else framed(name, data))
    stream.end()


def attach(call: Call) -> None:
    """POST /containers/{id}/attach: the connection becomes the container's standard streams."""
    call.hijack(
        call.engine.attach(
            call.path["id"],
            AttachQuery(
                stdin=call.flag("stdin"),
                stdout=call.flag("stdout"),
                stderr=call.flag("stderr"),
                stream=call.flag("stream"),
                logs=call.flag("logs"),
                detach_keys=call.text("detachKeys") or None,
            ),
        )
    )


def attach_websocket(call: Call) -> None:
    """GET /containers/{id}/attach/ws: the same by a WebSocket, where the streams are told apart by nothing."""
    chooses = call.version >= versions.WEBSOCKET_STREAMS
    session = call.engine.attach(
        call.path["id"],
        AttachQuery(
            stdin=call.flag("stdin") or not chooses,
            stdout=call.flag("stdout") or not chooses,
            stderr=call.flag("stderr") or not chooses,
            stream=call.flag("stream"),
            logs=call.flag("logs"),
            detach_keys=call.text("detachKeys") or None,
            websocket=BINARY if call.version >= versions.WEBSOCKET_BINARY else TEXT,
        ),
    )
    call.hijack_websocket(session)


def exec_create(call: Call) -> None:
    """POST /containers/{id}/exec."""
    body = call.body(docker.ExecConfig)
    if not body.cmd:
        raise InvalidInput("No exec command specified")
    call.answer(docker.IdResponse(id=call.engine.exec_create(call.path["id"], body)), 201)


def exec_start(call: Call) -> None:
    """POST /exec/{id}/start: like an attach, unless detached."""
    body, lent = call.body(docker.ExecStartConfig), call.text("descriptors")
    session = call.engine.exec_start(call.path["id"], body, lent)
    if session is None:
        call.done(200)
    else:
        call.hijack(session)


def lend(call: Call) -> None:
    """POST /sampan/descriptors: `count` open files come on the connection; a start's `descriptors` then names them."""
    names = call.text("names") if call.flag("listening") else None
    call.hijack(call.engine.lend(call.integer("count") or 0, names))


def exec_inspect(call: Call) -> None:
    """GET /exec/{id}/json."""
    call.answer(call.engine.exec_inspect(call.path["id"]))


def exec_resize(call: Call) -> None:
    """POST /exec/{id}/resize."""
    rows, columns = window(call)
    call.engine.exec_resize(call.path["id"], rows, columns)
    call.done(200)


# -------------------------------------------------------------------------------------------- /sampan


def explain(call: Call) -> None:
    """POST /sampan/containers/{id}/explain: the plan of a start, which need not happen."""
    call.answer(call.engine.explain(call.path["id"]))


def exec_explain(call: Call) -> None:
    """POST /sampan/exec/{id}/explain."""
    call.answer(call.engine.explain_exec(call.path["id"]))


def update(call: Call) -> None:
    """POST /containers/{id}/update."""
    call.answer(call.engine.update(call.path["id"], call.body(docker.ContainerUpdate)))


def update_ports(call: Call) -> None:
    """POST /sampan/containers/{id}/ports."""
    call.answer(call.engine.update_ports(call.path["id"], call.body(docker.PortsUpdate)))


def update_health(call: Call) -> None:
    """POST /sampan/containers/{id}/healthcheck."""
    call.answer(call.engine.update_health(call.path["id"], call.body(docker.HealthUpdate)))


def check_health(call: Call) -> None:
    """POST /sampan/containers/{id}/healthcheck/run: its health, with that run as the latest."""
    call.answer(call.engine.check_health(call.path["id"]))


def start_explained(call: Call) -> None:
    """POST /sampan/containers/{id}/start?explain=1: each step with the time it took, a line each."""
    if not call.flag("explain"):
        start(call)
        return
    lines = call.lines()
    try:
        for step in call.engine.start_explained(call.path["id"]):
            lines.write(step)
    except SampanError as e:
        if not lines.begun:
            raise
        # The steps before it are told already, and with them status 200.
        lines.write({"message": e.message, "hint": e.hint, "kind": type(e).__name__})
    lines.end()
