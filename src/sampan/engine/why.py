"""`why`: what ended a container, or ails it, out of what was recorded and what can still be looked up."""

from __future__ import annotations

import re
import time
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from sampan.engine import endings, missing_program, remains
from sampan.engine.causes import Facts, causes
from sampan.engine.causes_told import NO_SPEC
from sampan.engine.core import now_ns
from sampan.engine.launch import looked_around
from sampan.engine.logs import read_logs
from sampan.engine.requests import LogsQuery
from sampan.errors import NotFound, SampanError
from sampan.runtime.counting import counts
from sampan.spec.decoding import decode_json
from sampan.spec.docker import ContainerCreate
from sampan.spec.docker.why import Cause, Why
from sampan.spec.state import State, Status
from sampan.units import format_ago

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.runtime import Spec

_FRESH_NS = 5 * 10**9
_LINES = 10
_LOOKED_AT = 100
"""Lines that are looked at: what tells of a program that ran out of memory stands before a stack trace."""
_LONGEST = 400
_MOST_BYTES = 1 << 20
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """A container that has removed itself: what is remembered of it for a while."""

    id: str
    name: str
    created_ns: int
    body: ContainerCreate
    state: State


def why(core: Core, ref: str) -> Why:
    """Return how a container is, why, and its last output; also of one that removed itself some minutes ago."""
    try:
        container = core.registry.find(ref)
    except NotFound:
        record = core.store.removed(ref.removeprefix("/"))
        if record is None:
            raise
        return _why_removed(decode_json(record, Removed))
    return _why(core, container)


def _why_removed(removed: Removed) -> Why:
    state = removed.state
    facts = Facts(name=removed.name, state=state, body=removed.body, removed=True)
    return Why(
        id=removed.id,
        name=removed.name,
        status="removed",
        said=f"{removed.name} {_status(state, removed.created_ns, now_ns())}, and has been removed since: --rm",
        causes=tuple(_printable(cause) for cause in causes(facts)),
        ending=state.ending,
    )


def _why(core: Core, container: Container) -> Why:
    state, output = _completed(core, container), _output(core, container)
    program = None
    if state.ending and state.ending.exit_code and not state.ending.error:
        name = missing_program.named(output[-_LINES:], state.ending.exit_code)
        program = missing_program.look_up(core, container, name) if name else None
    facts = Facts(
        name=container.name,
        state=state,
        body=container.body,
        output=output,
        program=program,
        spec=_spec(core, container),
        now=counts(remains.cgroups(core, container.id)) if container.running else None,
    )
    return Why(
        id=container.id,
        name=container.name,
        status=state.status.value,
        said=f"{container.name} {_status(state, container.created_ns, now_ns())}",
        causes=tuple(_printable(cause) for cause in causes(facts)),
        ending=state.ending,
        output=output[-_LINES:],
    )


def _spec(core: Core, container: Container) -> Spec:
    try:
        return core.spec(container)
    except SampanError:  # it is being removed
        return NO_SPEC


def _completed(core: Core, container: Container) -> State:
    """Return its state; what the kernel records and the disks had to say may have come a moment behind its end."""
    state = container.state
    if not state.ending or state.alive:
        return state
    if time.time_ns() - state.finished_at_ns < _FRESH_NS:
        return msgspec.structs.replace(state, ending=looked_around(core, container, state.ending))
    ending = endings.with_kernel_records(state.ending, container.id, state.oom_killed, core.kernel_log)
    return msgspec.structs.replace(state, ending=ending)


def _status(state: State, created_ns: int, now: int) -> str:
    def ago(ns: int) -> str:
        return f"{format_ago((now - ns) / 1e9).lower()} ago"

    match state.status:
        case Status.CREATED:
            failed = f", and failed to start {ago(state.ending.at_ns)}" if state.ending else ""
            return f"was created {ago(created_ns)}{failed}"
        case Status.RUNNING | Status.PAUSED:
            health = f" and is {state.health.status}" if state.health else ""
            word = "is paused" if state.status is Status.PAUSED else "runs"
            again = state.ending if state.restart_count else None
            before = f", after it had ended with exit code {again.exit_code} {ago(again.at_ns)}" if again else ""
            return f"{word}{health}, started {ago(state.started_at_ns)}{before}"
        case Status.RESTARTING:
            return f"is restarting: it ended with exit code {state.exit_code} {ago(state.finished_at_ns)}"
        case Status.EXITED if state.ending and state.ending.error:
            return f"failed to start {ago(state.ending.at_ns)}"
        case Status.EXITED:
            return f"ended with exit code {state.exit_code} {ago(state.finished_at_ns)}{_ran(state)}"
        case _:
            return f"is {state.status.value}"


def _ran(state: State) -> str:
    if not state.started_at_ns or state.finished_at_ns < state.started_at_ns:
        return ""
    return f", after {format_ago((state.finished_at_ns - state.started_at_ns) / 1e9).lower()}"


def _output(core: Core, container: Container) -> tuple[str, ...]:
    """Return the last lines of the latest run, as they may be shown on a terminal; none where they can't be read."""
    query = LogsQuery(tail=_LOOKED_AT, since_ns=container.state.started_at_ns)
    data = bytearray()
    try:
        with closing(read_logs(core, container, query)) as pieces:
            for _, piece in pieces:
                data += piece
                del data[:-_MOST_BYTES]
    except (SampanError, OSError):
        return ()
    lines = data.decode(errors="replace").split("\n")
    return tuple(_clean(line)[:_LONGEST] for line in lines if line)[-_LOOKED_AT:]


def _clean(text: str) -> str:
    """Take out what does something to a terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text.rstrip("\r")))


def _printable(cause: Cause) -> Cause:
    return Cause(
        kind=cause.kind,
        said=_clean(cause.said),
        facts=tuple(_clean(fact)[:_LONGEST] for fact in cause.facts),
        fixes=tuple(map(_clean, cause.fixes)),
        from_output=cause.from_output,
    )
