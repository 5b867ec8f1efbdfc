"""`resume ID`."""

from __future__ import annotations

from sampan.oci.commands.pause import change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation

USAGE = "ID"
OPTIONS = ()


def perform(invocation: Invocation) -> int:
    """Let all processes of a paused container go on."""
    return change(invocation, ("paused",), frozen=False)
