"""Containers that a verb is about without their names: --all, --latest, --filter, --cidfile; flags of Podman's."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.cli.table import filters_of
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.command import Call

_RUNNING = ("running", "paused", "restarting")
_STATES = {"stop": _RUNNING, "kill": _RUNNING, "pause": ("running",), "unpause": ("paused",)}
"""In which states --all of a verb means a container; of the others in every one."""


def chosen(call: Call) -> list[str]:
    """Return the arguments with the chosen containers before them, as their ids or as they are in files."""
    values, given = call.options.values, call.arguments
    if values.get("latest"):
        return [_latest(call), *given]
    found = [_first_line(path) for path in values.get("cidfile") or ()]
    if values.get("all") or values.get("running") or values.get("filter"):
        if given:
            raise Failure("sampan: no arguments are needed with --all, --running or --filter", "leave one out", 125)
        found += _matching(call)
    return [*given, *found]


def _latest(call: Call) -> str:
    listed = call.session.ask("GET", "/containers/json?limit=1").json()
    if not listed:
        raise Failure("sampan: no such container: there is none, so there is no latest one", status=125)
    return str(listed[0]["Id"])


def _matching(call: Call) -> list[str]:
    values = call.options.values
    filters = filters_of(values.get("filter") or [])
    states = _RUNNING if values.get("running") else _STATES.get(call.command.path.rpartition(" ")[2], ())
    if states and "status" not in filters:
        filters["status"] = dict.fromkeys(states, True)
    listed = call.session.ask("GET", f"/containers/json{query(all=True, filters=filters or None)}").json()
    return [str(one["Names"][0]).lstrip("/") for one in listed]


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except (OSError, UnicodeDecodeError) as e:
        cause = (e.strerror or "").lower() if isinstance(e, OSError) else "it is no text"
        raise Failure(f"sampan: reading CIDFile: open {path}: {cause}", status=125) from None
