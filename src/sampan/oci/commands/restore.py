"""`restore ID`: make a container from what `checkpoint` wrote; criu does it."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from sampan.client.jsontext import loads
from sampan.errors import SampanError
from sampan.kernel import process, tty as pty
from sampan.oci import criu, criu_calls as calls, foreground, making
from sampan.oci.commands.checkpoint import CRIU_OPTIONS
from sampan.oci.commands.delete import delete
from sampan.oci.log import warn
from sampan.oci.options import Option
from sampan.runtime import container, mounting, ops, perform as performing
from sampan.runtime.container import Running
from sampan.runtime.plan import Plan, plan
from sampan.runtime.probe import probe
from sampan.runtime.scene import Channel, Scene

if TYPE_CHECKING:
    from sampan.oci.criu import Directories
    from sampan.oci.main import Invocation
    from sampan.oci.store import Record

USAGE = "[OPTIONS] ID"
OPTIONS = (
    Option("bundle b", "directory with config.json; the working directory unless given"),
    Option("config f", "the configuration's file, instead of config.json"),
    Option("console-socket", "unix socket that gets the terminal's master"),
    Option("pid-file", "file to write the first process's pid to"),
    Option("no-pivot", "taken for runc's sake: criu changes the root in its own way", "flag"),
    Option("no-subreaper", "do not become the parent of processes that lose theirs", "flag"),
    *CRIU_OPTIONS,
    Option("detach d", "return when the processes run", "flag"),
    Option("lsm-profile", "TYPE:NAME of the profile to restore under"),
    Option("lsm-mount-context", "SELinux context of mounts"),
)
LOG = "restore.log"
_PID_FILE = "restored"
_CGROUPS = (
    ops.MakeCgroup, ops.DelegateControllers, ops.InheritCpuset, ops.WriteCgroup, ops.FilterDevices, ops.OwnCgroup,
)  # fmt: skip


class Terminal(NamedTuple):
    """A new terminal in the place of the one that was dumped; -1 and "" where there is none."""

    master: int = -1
    slave: int = -1
    path: str = ""


def perform(invocation: Invocation) -> int:
    """Restore the container; without `--detach`, return its program's exit code."""
    given, id = invocation.given, invocation.id()
    detached = given.flag("detach")
    program = calls.program(invocation, "restore")
    directories = calls.directories(given, LOG)
    calls.existing(directories)
    bundle = making.read_bundle(given)
    making.check_terminal(making.process_of(bundle), given, detached=detached)
    criu.refuse(bundle.spec)
    if not detached:
        foreground.hold_signals()
    made = plan(bundle.spec, probe(), id=id, bundle=bundle.directory)
    record, lock = invocation.store.reserve(id, bundle.text, making.facts(bundle, made))
    try:
        making.refuse_others_groups(made)
        try:
            running = _restored(invocation, bundle, made, record, [program], directories)
            making.hand_over(running, given)
        except BaseException:
            _undo(record)
            raise
    finally:
        os.close(lock)
    if detached:
        return 0
    status = foreground.stay(running, subreaper=not given.flag("no-subreaper"))
    for failed in delete(record, force=True):
        warn(failed.message, invocation.options)
    return status


def _restored(
    invocation: Invocation,
    bundle: making.Bundle,
    made: Plan,
    record: Record,
    program: list[str],
    directories: Directories,
) -> Running:
    """Have criu make the processes, whose parent this one is then."""
    spec, given = bundle.spec, invocation.given
    _prepare(bundle, made)
    resolve = calls.resolver(made.root)
    terminal = _terminal(bundle)
    opened = {type: os.open(path, os.O_RDONLY | os.O_CLOEXEC) for type, path in criu.namespaces(spec).items()}
    inherited = {criu.namespace_key(type): fd for type, fd in opened.items()}
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    inherited |= criu.inherited_stdio(_descriptors(directories), terminal.slave, null)
    pid_file = f"{record.directory}/{_PID_FILE}"
    roots = criu.cgroup_roots(made.cgroups, dict(probe().cgroup_mounts))
    mounts = criu.external_again(spec, resolve, terminal.path)
    words = criu.restore(given, spec, directories, pid_file, roots, mounts, inherited)

    def prepare() -> None:
        calls.enter(made.cgroups)
        calls.as_root_mount(made.root)

    try:
        with calls.KeptIfWhole(directories.work):
            calls.call([*program, *words], "restore", directories, prepare, inherited.values())
    finally:
        for fd in (*opened.values(), null, terminal.slave):
            if fd >= 0:
                os.close(fd)
    with open(pid_file) as file:
        pid = int(file.read())
    os.unlink(pid_file)
    start_time = process.start_time(pid)
    record.change(pid=pid, startTime=start_time)
    console = terminal.master if terminal.master >= 0 else None
    return Running(pid, os.pidfd_open(pid), start_time, made.cgroups, console)


def _prepare(bundle: making.Bundle, made: Plan) -> None:
    """Do what a container's birth does that criu doesn't: its control groups with their limits, places to mount on."""
    nobody, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    scene = Scene(made.root, Channel(nobody))
    scene.root_fd = os.open(made.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for step in made.steps:
            if isinstance(step.op, _CGROUPS):
                performing.outside(step.op, scene)
        for target, source in criu.places(bundle.spec):
            os.close(mounting.place(scene, target, directory=not source or os.path.isdir(source)))
        mounting.forget_parent(scene)
    finally:
        os.close(scene.root_fd)
        nobody.close()
        other.close()


def _terminal(bundle: making.Bundle) -> Terminal:
    program = making.process_of(bundle)
    if not program.terminal:
        return Terminal()
    master, slave = os.openpty()
    if size := making.size_of(program):
        pty.set_size(master, *size)
    return Terminal(master, slave, os.ttyname(slave))


def _descriptors(directories: Directories) -> list[str]:
    """Read what the dumped process's first descriptors were; images of another tool have no such file."""
    try:
        with open(f"{directories.images}/{criu.DESCRIPTORS}") as file:
            names: list[str] = loads(file.read())
    except FileNotFoundError:
        return []
    return names


def _undo(record: Record) -> None:
    """Take back what there is of a container: processes, groups, the record."""
    with suppress(SampanError, OSError):
        container.delete(record.cgroups)
    if record.pid > 0:
        with suppress(OSError):
            os.kill(record.pid, signal.SIGKILL)
            os.waitpid(record.pid, 0)
    record.store.forget(record.id)
