"""`kill ID [SIGNAL]`."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C module alone: `signal` imports enum

from sampan.errors import Conflict, InvalidInput
from sampan.oci.options import Option
from sampan.oci.store import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation
    from sampan.oci.store import Record

USAGE = "[OPTIONS] ID [SIGNAL]"
OPTIONS = (
    Option("all a", "signal all processes of the container", "flag"),
    Option("regex r", "ID is a regular expression: signal all containers that it matches", "flag"),
)


def perform(invocation: Invocation) -> int:
    """Signal a container's first process, or all of them."""
    arguments = invocation.given.arguments
    if not 1 <= len(arguments) <= 2:
        raise InvalidInput(f"1 or 2 arguments are required, ID [SIGNAL]: {len(arguments)} given")
    number = signal_number(arguments[1] if len(arguments) == 2 else "SIGTERM")
    for record in invocation.store.matching(arguments[0], regex=invocation.given.flag("regex")):
        if invocation.given.flag("all"):
            _signal_all(record, number)
        else:
            _signal_first(record, number)
    return 0


def _signal_all(record: Record, number: int) -> None:
    from sampan.runtime import control

    if not record.cgroups or not control.processes(record.cgroups):
        raise Conflict(f"container {record.id} is not running")
    control.kill_everyone(record.cgroups, number)


def _signal_first(record: Record, number: int) -> None:
    pidfd = record.pidfd()
    _signal.pidfd_send_signal(pidfd, number)
    if number == _signal.SIGKILL and frozen(record.cgroups):
        from sampan.runtime import control

        control.freeze(record.cgroups, frozen=False)  # v1: what is frozen does not die


def signal_number(text: str) -> int:
    """Return a signal by its number, or by its name with or without SIG."""
    if text.isdecimal():
        number = int(text)
    else:
        name = text.upper().removeprefix("SIG")
        base, plus, offset = name.partition("+")
        number = (0 if base[:1] == "_" else getattr(_signal, f"SIG{base}", 0)) + (
            int(offset) if plus and offset.isdecimal() else 0
        )
    if not isinstance(number, int) or not 0 <= number < _signal.NSIG or (number == 0 and text != "0"):
        raise InvalidInput(f"unknown signal {text!r}")
    return number
