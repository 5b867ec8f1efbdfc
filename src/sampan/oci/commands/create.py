"""`create ID`: the container, blocked before its program."""

from __future__ import annotations

import os

from sampan.oci import making
from sampan.oci.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation

USAGE = "[OPTIONS] ID"
OPTIONS = (
    Option("bundle b", "directory with config.json; the working directory unless given"),
    Option("config f", "the configuration's file, instead of config.json"),
    Option("console-socket", "unix socket that gets the terminal's master"),
    Option("pid-file", "file to write the first process's pid to"),
    Option("no-pivot", "move the root instead of pivot_root(2), for one on the first ramdisk", "flag"),
    Option("no-new-keyring", "stay in the caller's session keyring", "flag"),
    Option("no-subreaper", "taken for runc's sake: only `run` is a subreaper", "flag"),
    Option("preserve-fds", "pass so many descriptors from 3 on to the program"),
)


def perform(invocation: Invocation) -> int:
    """Make the container and leave it to its caller."""
    invocation.id()  # it is looked at first
    bundle = making.read_bundle(invocation.given)
    making.check_terminal(making.process_of(bundle), invocation.given, detached=True)
    made = making.make(invocation, bundle, gated=True)
    try:
        making.hand_over(made.running, invocation.given)
    except BaseException:
        making.undo(made)
        raise
    os.close(made.lock)
    return 0
