"""The steps by which a process becomes the container's program, as they are performed."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has no stub of it
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

from sampan.errors import Failed, InvalidInput, NotPermitted, SyscallError
from sampan.kernel import credentials, mount, process, seccomp, tty
from sampan.kernel.fds import LAST, close_range
from sampan.kernel.mount import AT, MOVE_MOUNT, OPEN_TREE
from sampan.kernel.path import open_in_root
from sampan.runtime import diagnose, gate, passwd, reap
from sampan.runtime.gate import GO
from sampan.runtime.mounting import open_or_make
from sampan.runtime.scene import Channel

if TYPE_CHECKING:
    from sampan.runtime import ops
    from sampan.runtime.scene import Scene

_LONGEST_PASSWD = 16 << 20
_UNCHANGED = (_signal.SIG_DFL, None)


# -------------------------------------------------------------------------- while the host is in reach


def look_up_user(op: ops.LookUpUser, scene: Scene) -> None:
    """Find the ids by plain reads of the container's files."""
    users, groups = _read(scene, "/etc/passwd"), _read(scene, "/etc/group")
    if op.user:
        found = passwd.look_up(op.user, users, groups, add=op.group_add)
        added = tuple(g for g in op.additional_gids if g not in found.groups)
        scene.identity = found._replace(groups=(*found.groups, *added))
    else:
        scene.identity = passwd.of_number(op.uid, op.gid, op.additional_gids, users, groups, op.group_add)


def _read(scene: Scene, path: str) -> bytes:
    """Read a file of the container's; one that is missing is empty, and a pipe in its place is not waited for."""
    try:
        fd = open_in_root(scene.root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except SyscallError as e:
        if e.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENXIO}:
            return b""
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Failed(f"the container's {path} is no regular file")
        chunks: list[bytes] = []
        while len(chunks) * 65536 < _LONGEST_PASSWD and (chunk := os.read(fd, 65536)):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def make_console(op: ops.MakeConsole, scene: Scene) -> None:
    """Make a terminal in the container's devpts and send its master to the shim.

    The other side is opened through the master, not by a name that may have become a link. CVE-2025-52565.
    """
    devpts = open_in_root(scene.root_fd, "/dev/pts", os.O_RDONLY | os.O_DIRECTORY)
    try:
        master, name = tty.open_ptmx(devpts)
    finally:
        os.close(devpts)
    scene.slave_fd = tty.open_peer(master)
    facts = os.fstat(scene.slave_fd)
    if not stat.S_ISCHR(facts.st_mode) or not 136 <= os.major(facts.st_rdev) <= 143:
        raise Failed(f"{name} is not a terminal")
    if scene.console_size:
        tty.set_size(master, *scene.console_size)
    if op.bind:
        at = open_or_make(scene, "/dev/console", directory=False)
        tree = mount.open_tree(scene.slave_fd, "", OPEN_TREE.CLONE | AT.EMPTY_PATH)
        mount.move_mount(tree, "", at, "", MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH)
        os.close(tree)
        os.close(at)
    scene.channel.send_console(master)
    os.close(master)
    tty.set_controlling(scene.slave_fd)
    scene.stdio = (scene.slave_fd, scene.slave_fd, scene.slave_fd)
    if not op.bind:
        let_go_of_the_host(scene)  # an exec has already; this puts the terminal in place


def let_go_of_the_host(scene: Scene) -> None:
    """Close every descriptor but the channel, and put the program's three in their places.

    A directory of the host that stays open is a way out, through /proc/self/fd. CVE-2024-21626.
    """
    if scene.stdio is not None:
        # Copies above first: one of the three may stand where another is to go.
        copies = [os.dup(fd) for fd in scene.stdio]
        for number, fd in enumerate(copies):
            os.dup2(fd, number)
        scene.stdio = None
    if scene.kept:
        _place_kept(scene)
    first = 3
    for kept in sorted({scene.channel.fd, scene.gate_fd, scene.agent_fd, *scene.kept} - {-1}):
        if first < kept:
            close_range(first, kept - 1)
        first = kept + 1
    close_range(first, LAST)
    scene.parent_fd, scene.parent_path = -1, ""
    scene.root_fd = scene.null_fd = scene.empty_fd = scene.proc_fd = -1


def _place_kept(scene: Scene) -> None:
    """Put what the program inherits from 3 on, in its order, and out of the way what else is still needed."""
    places = tuple(range(3, 3 + len(scene.kept)))
    if scene.kept == places:
        return
    free = max(*places, *scene.kept, scene.channel.fd, scene.gate_fd, scene.agent_fd) + 1
    copies = [os.dup2(fd, free + n, inheritable=False) for n, fd in enumerate(scene.kept)]
    free += len(copies)
    scene.channel.move(free)
    if scene.gate_fd >= 0:
        scene.gate_fd = os.dup2(scene.gate_fd, free + 1, inheritable=False)
    if scene.agent_fd >= 0:
        scene.agent_fd = os.dup2(scene.agent_fd, free + 2, inheritable=False)
    for copy, wanted in zip(copies, places, strict=True):
        os.dup2(copy, wanted)
    scene.kept = places


# ---------------------------------------------------------------------------------- rights, one by one


def change_directory(op: ops.ChangeDirectory, scene: Scene) -> None:
    """Change to a directory, and see that it is below the root: one of the host's would not be. CVE-2024-21626."""
    if scene.root_fd >= 0:  # in an exec the container's root, which the user's and the terminal's files were opened by
        os.close(scene.root_fd)
        scene.root_fd = -1
    try:
        os.chdir(op.path)
    except OSError as e:  # in runc's words
        cause = os.strerror(e.errno or 0).lower()
        raise InvalidInput(f'chdir to cwd ("{op.path}") set in config.json failed: {cause}') from None
    try:
        os.getcwd()
    except FileNotFoundError:
        raise NotPermitted("it is not inside the container's root") from None


def drop_bounding(op: ops.DropBounding) -> None:
    """Drop all capabilities that are not to be kept; the kernel may know fewer than we do."""
    for name in credentials.CAPABILITIES:
        if name not in op.keep:
            try:
                credentials.drop_bounding(name)
            except SyscallError as e:
                if e.errno == errno.EINVAL:
                    return
                raise


def become_user(scene: Scene) -> None:
    """Take the ids that were looked up, and give the user the standard descriptors, or it could not reopen them."""
    who = scene.identity
    assert who
    for fd in (0, 1, 2):
        _give(fd, who.uid)
    process.set_keepcaps(True)
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    # A change of user makes a process what fs.suid_dumpable says.
    process.set_dumpable(False)


def _give(fd: int, uid: int) -> None:
    try:
        facts = os.fstat(fd)
        if facts.st_uid != uid and (stat.S_ISFIFO(facts.st_mode) or os.isatty(fd)):
            os.fchown(fd, uid, -1)
    except OSError:
        pass  # a closed descriptor, or one of a filesystem that doesn't know owners


def set_capabilities(op: ops.SetCapabilities) -> None:
    """Set four of the five sets."""
    credentials.capset(op.effective, op.permitted, op.inheritable)
    for name in op.ambient:
        credentials.ambient_raise(name)


def set_filter(op: ops.SetFilter, scene: Scene) -> None:
    """Set the filter; where it asks an agent about some calls, that gets the listener."""
    flags = 0
    for flag in op.flags:
        flags |= seccomp.FLAGS[flag]
    filter = scene.filters[op.profile + op.variant]
    if not op.notifies:
        seccomp.set_filter(filter, flags=flags & ~seccomp.FLAGS["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])
        return
    from sampan.runtime import notify  # loaded before the fork

    notify.set_filter(filter, flags, scene)


def stay_as_reaper(scene: Scene) -> None:
    """Fork; the child goes on to become the program, this process stays and never returns."""
    process.set_name(reap.NAME)
    reap.hide_arguments(*scene.arguments)
    reap.block()
    child = os.fork()
    if child == 0:
        reap.foreground()
        return
    scene.channel.close()
    close_range(0)
    os._exit(reap.stay(child))


def execute(op: ops.Execute, scene: Scene) -> None:
    """Become the program, or say why not."""
    env = _environment(op, scene)
    program = scene.program or diagnose.find(op.args[0], env.get("PATH", diagnose.DEFAULT_PATH))
    try:
        os.execve(program, op.args, env)
    except OSError as e:
        raise diagnose.why(program, e, scene.machine) from None


def wait_for_start(scene: Scene) -> None:
    """Wait until the container is started; who starts it hears what fails from here on."""
    if scene.gate_fd < 0:
        scene.channel.wait_for(GO)
        return
    connection = gate.wait(scene.gate_fd)
    scene.channel.close()
    scene.channel = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, connection))


def _environment(op: ops.Execute, scene: Scene) -> dict[str, str]:
    env = {}
    for pair in op.env:
        name, _, value = pair.partition("=")
        env[name] = value
    if not env.get("HOME"):
        env["HOME"] = scene.identity.home if scene.identity else "/"
    return env


def find_program(op: ops.Execute, scene: Scene) -> None:
    """Find the program now: who makes a container that is to wait hears of one that is missing, not who starts it.

    Nor of one that nobody may execute: containerd keeps its shim where the start fails of what it has created.
    """
    path = _environment(op, scene).get("PATH", diagnose.DEFAULT_PATH)
    scene.program = diagnose.find(op.args[0], path)
    if "/" in op.args[0]:
        try:
            mode = os.stat(op.args[0]).st_mode
        except OSError as e:
            raise diagnose.why(op.args[0], e, scene.machine) from None
        if not stat.S_ISREG(mode) or not mode & 0o111:
            raise diagnose.why(op.args[0], PermissionError(errno.EACCES, ""), scene.machine)


def read_filter(op: ops.SetFilter) -> bytes:
    """Read the compiled filter that the step sets."""
    if op.profile == "default":
        return seccomp.default_filter(variant=op.variant)
    if op.profile == "spec":
        return seccomp.compile(op.document, installs_all=True)
    with open(op.profile, "rb") as file:
        return file.read()


def default_signals() -> None:
    """Undo what this process's own interpreter, and whoever started it, had set: an ignored signal survives an exec."""
    # The C module itself: `signal` wraps each call into enums, half a millisecond for all of them.
    _signal.set_wakeup_fd(-1)
    for number in range(1, _signal.NSIG):
        if _signal.getsignal(number) not in _UNCHANGED:
            _signal.signal(number, _signal.SIG_DFL)
    for number in process.LIBC_SIGNALS:
        process.reset_signal(number)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
