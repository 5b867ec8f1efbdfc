"""The handlers about the engine itself, and the answers for what is not built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.engine.requests import EventsQuery
from sampan.errors import Unsupported

if TYPE_CHECKING:
    from sampan.api.call import Call
    from sampan.spec import docker

_NEVER_CACHED = {
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Builder-Version": "1",
    "Swarm": "inactive",
}


def ping(call: Call) -> None:
    """GET and HEAD /_ping: a client learns the version to speak from the answer's headers."""
    call.answer_text("OK", _NEVER_CACHED)


def version(call: Call) -> None:
    """GET /version."""
    call.answer(call.engine.version())


def info(call: Call) -> None:
    """GET /info, and /sampan/info."""
    call.answer(call.engine.info())


def network_audit(call: Call) -> None:
    """GET /sampan/networks/audit: who reaches the published ports."""
    call.answer(call.engine.network_audit())


def stop(call: Call) -> None:
    """POST /sampan/stop: keeper and server end, behind the answer."""
    call.done()
    call.engine.stop_server()


def reset(call: Call) -> None:
    """POST /sampan/reset: nothing is left but the settings."""
    call.engine.reset()
    call.done()


def doctor(call: Call) -> None:
    """GET /sampan/doctor."""
    call.answer(list(call.engine.examine_host()))


def disk_usage(call: Call) -> None:
    """GET /system/df."""
    kinds = frozenset(call.texts("type"))
    call.answer(call.engine.disk_usage(kinds) if kinds else call.engine.disk_usage())


def events(call: Call) -> None:
    """GET /events: one event a line, until `until` or until the client leaves."""
    query = EventsQuery(since_ns=call.nanoseconds("since"), until_ns=call.nanoseconds("until"), filters=call.filters())
    stream = call.engine.events(query)
    lines = call.lines()
    try:
        with call.if_client_leaves(stream.close):
            lines.begin()
            for event in stream:
                lines.write(_with_older_form(event))
    finally:
        stream.close()
    lines.end()


def _with_older_form(event: docker.EventMessage) -> docker.EventMessage:
    """Add the fields of before 1.22, which Docker still sends up to 1.50 and many scripts read."""
    if event.type not in ("container", "image"):
        return event
    origin = event.actor.attributes.get("image", "") if event.type == "container" else ""
    return msgspec.structs.replace(event, status=event.action, legacy_id=event.actor.id, legacy_from=origin)


def unsupported(call: Call) -> None:
    """Any call of Docker's API that is not built yet."""
    raise Unsupported(
        f"unsupported: {call.what} is not built yet",
        "the changelog says what each version of sampan can do",
    )
