"""`checkpoint ID`: not built; every option of runc's is known, so that the answer is the reason."""

from __future__ import annotations

from sampan.errors import Unsupported
from sampan.oci.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.main import Invocation

USAGE = "[OPTIONS] ID"
CRIU_OPTIONS = (
    Option("image-path", "directory of criu's files"),
    Option("work-path", "directory of criu's log"),
    Option("parent-path", "directory of the files of a pre-dump"),
    Option("tcp-established", "take open TCP connections along", "flag"),
    Option("ext-unix-sk", "leave unix sockets to the outside open", "flag"),
    Option("shell-job", "the container has the terminal of a shell", "flag"),
    Option("file-locks", "take file locks along", "flag"),
    Option("manage-cgroups-mode", "soft, full or strict"),
    Option("empty-ns", "a namespace whose properties are left out"),
    Option("auto-dedup", "write memory that is the same once", "flag"),
    Option("lazy-pages", "bring memory later", "flag"),
)
OPTIONS = (
    *CRIU_OPTIONS,
    Option("leave-running", "let the container go on", "flag"),
    Option("status-fd", "descriptor to say readiness to"),
    Option("page-server", "ADDRESS:PORT of a page server"),
    Option("pre-dump", "write memory only, and let the container go on", "flag"),
)


def perform(invocation: Invocation) -> int:
    """Say that it can't be done, of a container that is there."""
    invocation.store.find(invocation.id())
    raise Unsupported("can't checkpoint the container: criu is not driven by this runtime")
