"""Compiled filters of system calls, kept: compiling one takes 80 ms, and an engine gives the same one every time.

They are in FILTERS/HEX, HEX by what they were compiled from and by whom, until the machine's next start.
"""

from __future__ import annotations

import os
from _blake2 import blake2b  # hashlib would load OpenSSL

from msgspec.structs import replace

from sampan import __version__
from sampan.oci.store import write
from sampan.runtime import ops
from sampan.runtime.becoming import read_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.plan import Plan, Step

FILTERS = "/run/sampan-runtime/filters"


def kept(made: Plan) -> Plan:
    """Have a plan's filter read from where it is kept, compiled if this is the first that has it."""
    return replace(made, steps=tuple(_kept(step) for step in made.steps))


def _kept(step: Step) -> Step:
    op = step.op
    if not isinstance(op, ops.SetFilter) or op.profile != "spec":
        return step
    host = os.uname()
    what = f"{__version__} {host.machine} {host.release} ".encode() + op.document
    name = blake2b(what, digest_size=20).hexdigest()
    path = f"{FILTERS}/{name}"
    if not os.path.exists(path):
        try:
            os.makedirs(FILTERS, 0o700, exist_ok=True)
            write(FILTERS, name, read_filter(op))
        except OSError:  # not root's machine: it is compiled every time
            return step
    return replace(step, op=replace(op, profile=path))
