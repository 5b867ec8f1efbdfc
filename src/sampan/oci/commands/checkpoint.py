"""`checkpoint ID`: write a running container's processes to files; criu does it."""

from __future__ import annotations

import os

from sampan.client.jsontext import dumps
from sampan.errors import Conflict, InvalidInput
from sampan.oci.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.kernel.mount import MountInfo
    from sampan.oci.criu import Directories
    from sampan.oci.main import Invocation
    from sampan.oci.store import Record

USAGE = "[OPTIONS] ID"
CRIU_OPTIONS = (
    Option("image-path", "directory of criu's files; ./checkpoint unless given"),
    Option("work-path", "directory of criu's log, that of the files unless given"),
    Option("tcp-established", "take open TCP connections along", "flag"),
    Option("ext-unix-sk", "leave unix sockets to the outside open", "flag"),
    Option("shell-job", "the container has the terminal of a shell", "flag"),
    Option("file-locks", "take file locks along", "flag"),
    Option("manage-cgroups-mode", "soft (unless given), full, strict or ignore"),
    Option("empty-ns", "a namespace whose properties are left out: network"),
    Option("auto-dedup", "drop from earlier files the memory that is in later ones", "flag"),
    Option("lazy-pages", "bring memory when it is first used", "flag"),
)
OPTIONS = (
    *CRIU_OPTIONS,
    Option("parent-path", "directory of the files of a pre-dump, as seen from that of the files"),
    Option("leave-running", "let the container go on", "flag"),
    Option("status-fd", "descriptor that gets a zero byte when pages can be asked for"),
    Option("page-server", "ADDRESS:PORT of a page server"),
    Option("pre-dump", "write memory only, and let the container go on", "flag"),
)
LOG = "dump.log"


def perform(invocation: Invocation) -> int:
    """Dump the container; without `--leave-running` or `--pre-dump` it has stopped then."""
    from sampan.oci import criu_calls as calls

    given = invocation.given
    record = invocation.store.find(invocation.id())
    program = calls.program(invocation, "checkpoint")
    directories = calls.directories(given, LOG)
    lock = record.lock()
    try:
        if (status := record.status) not in ("running", "paused"):
            raise Conflict(f"container {record.id} cannot be checkpointed: it is {status}")
        with calls.KeptIfWhole(directories.images, directories.work):
            calls.check_parent(directories, given.value("parent-path"))
            _dump(invocation, record, program, directories)
    finally:
        os.close(lock)
    return 0


def _dump(invocation: Invocation, record: Record, program: str, directories: Directories) -> None:
    from sampan.kernel.mount import mountinfo
    from sampan.oci import criu, criu_calls as calls, making
    from sampan.spec.runtime import read

    given = invocation.given
    spec = making.absolute(read(record.config()), record.facts["bundle"])
    mounted = mountinfo(record.pid)
    names = _stdio(record.pid, mounted)
    inodes = {type: os.stat(path).st_ino for type, path in criu.namespaces(spec).items()}
    external = criu.external(spec, mounted, inodes, calls.resolver(record.facts["rootfs"]))
    external += criu.external_stdio(names)
    words = criu.dump(given, spec, record.pid, directories, record.cgroups, external)
    status_fd = given.number("status-fd")
    calls.call([program, *words], "checkpoint", directories, inherited=_open(status_fd))
    if not given.flag("pre-dump"):
        with open(f"{directories.images}/{criu.DESCRIPTORS}", "w") as file:
            file.write(dumps(names))


def _stdio(pid: int, mounted: list[MountInfo]) -> list[str]:
    """Name the descriptors 0, 1 and 2 of a process, "" for one that is closed."""
    from sampan.oci import criu

    ids = frozenset(m.mount_id for m in mounted)
    names = []
    for fd in range(3):
        try:
            link, facts = os.readlink(f"/proc/{pid}/fd/{fd}"), os.stat(f"/proc/{pid}/fd/{fd}")
            with open(f"/proc/{pid}/fdinfo/{fd}") as file:
                mount_id = next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
        except FileNotFoundError:
            names.append("")
        else:
            names.append(criu.stdio_name(link, facts, mount_id, ids))
    return names


def _open(fd: int | None) -> tuple[int, ...]:
    """Return the descriptor that criu is to say readiness to, if there is one; -1 is runc's word for none."""
    if fd is None or fd < 0:
        return ()
    try:
        os.fstat(fd)
    except OSError:
        raise InvalidInput(f"can't use --status-fd {fd}: it is not open") from None
    return (fd,)
