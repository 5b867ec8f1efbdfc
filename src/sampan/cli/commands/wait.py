"""`sampan wait`: block until containers end and print their exit statuses; or until they are in some state."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import LATEST, container
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say, warn
from sampan.cli.session import ServerError
from sampan.cli.waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ENDS = ("not-running", "next-exit", "removed")  # those of the API
_STATES = ("created", "running", "paused", "restarting", "exited", "dead", "healthy", "unhealthy")
_OTHER_WORDS = {"stopped": "not-running", "configured": "created"}
_INTERVAL_NS = 250_000_000


def wait(call: Call) -> int:
    """Print the exit status of each container, in the order of the arguments; -1 for one that has not ended."""
    wanted = [_OTHER_WORDS.get(word, word) for text in call.options["condition"] for word in text.split(",")]
    for word in wanted:
        if word not in (*_ENDS, *_STATES):
            raise Failure(f'invalid condition: "{word}"', f"there are {', '.join((*_ENDS, *_STATES))}")
    ends = [word for word in wanted if word in _ENDS] or ([] if wanted else ["not-running"])
    if ends and len(wanted) > 1:
        raise Failure(f"can't wait for {ends[0]} and for another condition", "wait for one of them")
    status = 0
    for name in call.arguments:
        try:
            code = Waiting(call.session, container(name), ends[0]).exit_status() if ends else _until(call, name, wanted)
            say(str(code))
        except ServerError as e:
            warn(e.message + (f"\n  hint: {e.hint}" if e.hint else ""))
            status = 1
    return status


def _until(call: Call, name: str, wanted: list[str]) -> int:
    """Look at it again and again; the API waits for ends only."""
    import time

    while True:
        state: dict[str, Any] = call.session.ask("GET", container(name, "/json")).json()["State"]
        if state["Status"] in wanted or (state.get("Health") or {}).get("Status") in wanted:
            return int(state["ExitCode"]) if state["Status"] in ("exited", "dead") else -1
        time.sleep((call.options["interval"] or _INTERVAL_NS) / 1e9)


COMMAND = Command(
    "wait [OPTIONS] CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    wait,
    flags=(
        Flag("condition", "list", "Wait for not-running, next-exit or removed; or for a state: running, paused, …"),
        Flag("interval", "duration", "How often a state is looked at: 250ms", short="i"),
        LATEST,
    ),
    arguments=(1, None),
    choosers=("latest",),
)
