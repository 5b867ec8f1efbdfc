"""`restore ID`: not built; every option of runc's is known, so that the answer is the reason."""

from __future__ import annotations

from sampan.errors import Unsupported
from sampan.oci.commands import checkpoint, create
from sampan.oci.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation

USAGE = "[OPTIONS] ID"
OPTIONS = (
    *create.OPTIONS,
    *checkpoint.CRIU_OPTIONS,
    Option("detach d", "return when the processes run", "flag"),
    Option("lsm-profile", "TYPE:NAME of the profile to restore under"),
    Option("lsm-mount-context", "SELinux context of mounts"),
)


def perform(invocation: Invocation) -> int:
    """Say that it can't be done."""
    invocation.id()
    raise Unsupported("can't restore a container: criu is not driven by this runtime")
