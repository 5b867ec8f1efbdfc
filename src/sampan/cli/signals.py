"""Signals that this process gets and the container's program is meant to get."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` imports enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from sampan.cli.session import Session

_PASSED_ON = ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "CONT", "TSTP")
_LIMIT = 3


def pass_signals_on(session: Session, id: str) -> None:
    """Send the signals that we get to the container's program.

    The third SIGINT or SIGTERM ends us: a program that is process 1 and has no handler never sees them.
    """
    asked = 0

    def pass_on(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal asked
        if number in (_signal.SIGINT, _signal.SIGTERM):
            asked += 1
            if asked == _LIMIT:
                from sampan.cli.failure import Failure

                raise Failure(
                    "\ngot 3 SIGTERM/SIGINTs, forcefully exiting",
                    f"process 1 gets only signals that it handles: sampan kill {id[:12]}, or start it with --init",
                )
        ask_quietly(session, f"/containers/{id}/kill?signal={names[number]}")

    names = {getattr(_signal, f"SIG{name}"): name for name in _PASSED_ON}
    for number in names:
        _signal.signal(number, pass_on)


def restore_signals() -> None:
    """Let signals do again what they do to any program."""
    for name in (*_PASSED_ON, "WINCH"):
        number = getattr(_signal, f"SIG{name}")
        _signal.signal(number, _signal.default_int_handler if name == "INT" else _signal.SIG_DFL)


def ask_quietly(session: Session, target: str, method: str = "POST") -> None:
    """Ask on a connection of its own; a program that is not there yet or any more is no error."""
    from sampan.cli.failure import Failure
    from sampan.errors import SampanError

    try:
        session.open(method, target).read()
    except (Failure, SampanError):
        pass
