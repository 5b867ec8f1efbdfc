"""`run ID`: create, start, wait, delete, by one process."""

from __future__ import annotations

import os
from contextlib import suppress

from sampan.errors import NotFound
from sampan.oci import making
from sampan.oci.commands import create
from sampan.oci.commands.delete import delete
from sampan.oci.commands.start import poststart
from sampan.oci.log import warn
from sampan.oci.options import Option
from sampan.runtime import container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation

USAGE = "[OPTIONS] ID"
OPTIONS = (
    *create.OPTIONS,
    Option("detach d", "return when the program runs", "flag"),
    Option("keep", "do not delete the container at its end", "flag"),
)


def perform(invocation: Invocation) -> int:
    """Run the container; return its program's exit code."""
    given = invocation.given
    detached = given.flag("detach")
    invocation.id()  # it is looked at first
    bundle = making.read_bundle(given)
    making.check_terminal(making.process_of(bundle), given, detached=detached)
    if not detached:
        from sampan.oci import foreground

        foreground.hold_signals()
    made = making.make(invocation, bundle, gated=False)
    try:
        making.hand_over(made.running, given)
        container.start(made.running)
        if "poststart" in made.record.facts["hooks"]:
            poststart(made.record)
    except BaseException:
        making.undo(made)
        raise
    os.close(made.lock)
    if detached:
        return 0
    status = foreground.stay(made.running, subreaper=not given.flag("no-subreaper"))
    if not given.flag("keep"):
        with suppress(NotFound):  # another command has deleted it
            for failed in delete(made.record, force=True):
                warn(failed.message, invocation.options)
    return status
