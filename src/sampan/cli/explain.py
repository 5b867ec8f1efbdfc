"""`--explain`: the kernel steps that make a container, from the engine's plan of it."""

from __future__ import annotations

from sampan.cli.output import say, warn
from sampan.cli.session import ServerError, Session
from sampan.client.jsontext import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMS = ("text", "sh", "json")


def print_plan(session: Session, target: str, form: str = "text") -> None:
    """Print the plan of a container or exec that has not started: for reading, to error; as data, to output."""
    plan = session.ask("POST", f"/sampan{target}/explain").json()
    if form == "sh":
        say(plan["script"].rstrip("\n"))
    elif form == "json":
        say(dumps(plan))
    else:
        for number, step in enumerate(plan["steps"], 1):
            warn(_line(number, step))


def print_and_remove(session: Session, id: str, form: str) -> int:
    """Print a created container's plan and remove the container again: nothing was run."""
    try:
        print_plan(session, f"/containers/{id}", form)
    finally:
        try:
            session.ask("DELETE", f"/containers/{id}?v=1&force=1").read()
        except ServerError:
            pass
    return 0


def start_explained(session: Session, id: str) -> None:
    """Start a container and print every step as it happens, with the time that it took."""
    answer = session.open("POST", f"/sampan/containers/{id}/start?explain=1")
    number = 0
    for text in answer.lines():
        if not text.strip():
            continue
        step = loads(text)
        if "message" in step:
            from sampan.client.wire import error_of

            error = error_of(int(step.get("status", 500)), text)
            raise ServerError(error.message, error.hint, 500, error.exit_status)
        number += 1
        warn(_line(number, step))


def _line(number: int, step: dict[str, Any]) -> str:
    """`12. mounts /proc  [0.04 ms]`, below it the shell line and the man page."""
    took = f"  [{step['ns'] / 1e6:.2f} ms]" if step.get("ns") is not None else ""
    text = f"{number:>3}. {step.get('sentence', '')}{took}"
    if step.get("shell"):
        text += "".join(f"\n       $ {line}" for line in str(step["shell"]).split("\n"))
    if step.get("man"):
        text += f"\n       {step['man']}"
    return text
