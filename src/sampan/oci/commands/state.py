"""`state ID`."""

from __future__ import annotations

import sys

from sampan.oci.report import lines, state_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation

USAGE = "ID"
OPTIONS = ()


def perform(invocation: Invocation) -> int:
    """Print the state."""
    record = invocation.store.find(invocation.id())
    sys.stdout.write("\n".join(lines(state_of(record))) + "\n")
    return 0
