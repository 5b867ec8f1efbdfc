"""The first half of the keeper's start: become a process that owes nothing to who started it.

Whoever runs the first command (a shell, a CI job, a systemd unit) has a session, a working directory, an environment,
limits and control groups that must neither reach the containers nor take them along at its end. What is done here:

    the lock            one keeper for each instance
    the socket          listening before this returns: who started it need not wait
    control groups      /sampan-INSTANCE/engine in every hierarchy
    mount namespace     of its own, following the host's; the interpreter is bound onto itself there, read-only
    the rest            session, directory, umask, environment, limits, signals, descriptors
    exec                of sampan.supervise.keeper, from behind that bind: a container can't open /proc/PID/exe for
                        writing (CVE-2019-5736), not even as root
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from sampan import dirs as paths
from sampan.errors import Failed, InvalidInput, SampanError, doing
from sampan.kernel import cgroupfs, fds, process, trees
from sampan.kernel.mount import MS, mount as attach
from sampan.kernel.namespaces import CLONE, unshare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.dirs import Dirs

ENTRY = "import sys; from sampan.supervise.keeper import main; sys.exit(main())"
SERVER = "sampan.api.server"

KEPT = frozenset({
    "PATH", "HOME", "LANG", "TZ", "SAMPAN_IDLE_S", "SAMPAN_PARKED_S", "DOCKER_CONFIG", "SAMPAN_CONFIG",
    "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
})  # fmt: skip
"""The variables that a pull or the server needs. The rest is the caller's own business."""

_BACKLOG = 4096
_LOCK_WAIT_S = 10.0
_LOG_MAX_BYTES = 1_000_000


class Options:
    """The keeper's arguments, the same for both halves. No argparse: the keeper stays small, as its forks do."""

    def __init__(self, argv: list[str]) -> None:
        self.root: str | None = None
        self.foreground = False  # stay in this session, and log to its terminal
        self.server = SERVER  # the server's module, or a script's path
        self.listen_fd: int | None = None  # take these over: the listening socket,
        self.server_fd: int | None = None  # the channel to a server that runs,
        self.lock_fd: int | None = None  # the lock,
        self.host_fd: int | None = None  # the mount namespace that the first keeper was started in
        rest = iter(argv)
        for name in rest:
            try:
                self._set(name, rest)
            except (StopIteration, ValueError):
                raise InvalidInput(f"can't use the keeper's option {name}: its value is missing or wrong") from None

    def _set(self, name: str, rest: Iterator[str]) -> None:
        match name:
            case "--foreground":
                self.foreground = True
            case "--root" | "--server":
                setattr(self, name[2:], next(rest))
            case "--listen-fd" | "--server-fd" | "--lock-fd" | "--host-fd":
                setattr(self, name[2:].replace("-", "_"), int(next(rest)))
            case _:
                raise InvalidInput(f"unknown option of the keeper: {name}")

    def argv(self) -> list[str]:
        """Return the arguments that say the same."""
        argv = ["--server", self.server]
        if self.root:
            argv += ["--root", self.root]
        if self.foreground:
            argv.append("--foreground")
        for name in ("listen", "server", "lock", "host"):
            if (fd := getattr(self, f"{name}_fd")) is not None:
                argv += [f"--{name}-fd", str(fd)]
        return argv

    def fds(self) -> list[int]:
        """Return the descriptors that the next half gets."""
        return [fd for fd in (self.listen_fd, self.server_fd, self.lock_fd, self.host_fd) if fd is not None]


def main() -> int:
    """Start the keeper; return when its socket listens and it goes on as nobody's child."""
    try:
        with doing("can't start sampan here"):
            _start(Options(sys.argv[1:]))
    except SampanError as e:
        print(f"sampan: {e.message}" + (f"\n  hint: {e.hint}" if e.hint else ""), file=sys.stderr)
        return e.exit_status
    return 0


def _start(given: Options) -> None:
    dirs = paths.find(given.root)
    given.root = dirs.root
    os.umask(0o022)
    make_directories(dirs)
    os.chdir("/")
    if given.lock_fd is None:
        given.lock_fd = take_lock(dirs)
    if given.lock_fd is None:  # another keeper serves this instance
        return
    forget_other_boots(dirs)
    with doing("making a mount namespace"):
        if given.host_fd is None:
            given.host_fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        hide_interpreter()
    leave_cgroups(group_name(dirs))
    if given.listen_fd is None:  # last: who finds it waits for a server
        given.listen_fd = listen(dirs)
    if given.foreground or not os.fork():
        become(dirs, given)


def become(dirs: Dirs, given: Options) -> NoReturn:
    """Execute the second half, with nothing left of who started this."""
    if not given.foreground:
        _detach(dirs)
    reset_signals()
    raise_limits()
    fds.close_range(3, cloexec=True)
    for fd in given.fds():
        os.set_inheritable(fd, True)
    argv = [sys.executable, "-P", "-c", ENTRY, *given.argv()]
    os.execve(sys.executable, argv, environment(os.environ))


# ------------------------------------------------------------------------------------- directories, lock, socket


def make_directories(dirs: Dirs) -> None:
    """Make ROOT and RUN."""
    for directory, mode in ((dirs.root, 0o710), (dirs.run, 0o711), (dirs.shims, 0o700)):
        os.makedirs(directory, mode, exist_ok=True)


def take_lock(dirs: Dirs) -> int | None:
    """Return the locked descriptor; None when another keeper holds the lock and serves.

    One that is just ending still holds it for a moment, and is waited for.
    """
    lock = os.open(dirs.keeper_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if _answers(dirs.socket):
                os.close(lock)
                return None
        if time.monotonic() > deadline:
            raise Failed(f"{dirs.keeper_lock} is held by a process that does not serve", f"see {dirs.keeper_log}")
        time.sleep(0.01)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
        except OSError:
            return False
    return True


def listen(dirs: Dirs) -> int:
    """Open the API's socket in the place of one that a killed keeper has left. The lock is held."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        os.unlink(dirs.socket)
    except FileNotFoundError:
        pass
    umask = os.umask(0o117)
    try:
        sock.bind(dirs.socket)
    finally:
        os.umask(umask)
    sock.listen(_BACKLOG)
    return sock.detach()


def forget_other_boots(dirs: Dirs) -> None:
    """Where RUN is on a disk, remove the facts of containers that ended with the machine."""
    path = f"{dirs.run}/boot_id"
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
        now = file.readall()
    try:
        with open(path, "rb", buffering=0) as file:
            if file.readall() == now:
                return
        trees.remove_tree(dirs.shims)
        os.mkdir(dirs.shims, 0o700)
    except FileNotFoundError:
        pass
    with open(path, "wb", buffering=0) as file:
        file.write(now)


def instance(dirs: Dirs) -> str:
    """Return the instance's id, which is made here when there is none."""
    try:
        with open(dirs.instance, "rb", buffering=0) as file:
            id = file.readall().decode("ascii", "replace").strip()
    except FileNotFoundError:
        id = os.urandom(4).hex()
        with open(f"{dirs.instance}.new", "wb", buffering=0) as file:
            file.write(f"{id}\n".encode())
            os.fsync(file.fileno())
        os.rename(f"{dirs.instance}.new", dirs.instance)
    if len(id) != 8 or not set(id) <= set("0123456789abcdef"):
        raise Failed(
            f"{dirs.instance} does not hold an instance's id",
            "restore it, or remove it when no container of this root runs: control groups have the id in their names",
        )
    return id


# ------------------------------------------------------------------------------------------------ control groups


def group_name(dirs: Dirs) -> str:
    """Name the group in which all groups of this instance are, in every hierarchy."""
    return f"sampan-{instance(dirs)}"


def leave_cgroups(name: str) -> None:
    """Move out of the caller's groups, which end with it, into NAME/engine in every hierarchy.

    One that can't be written (no right to, mounted read-only) is left as it is.
    """
    current = cgroupfs.of_process()
    for mount in _hierarchies():
        if current.get(mount.controller, "").endswith(f"/{name}/engine"):
            continue
        try:
            _enter(mount, name)
        except OSError as e:
            if e.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
                raise
            print(f"sampan: the keeper stays in its caller's group of {mount.mount_point}: {e}", file=sys.stderr)


def _hierarchies() -> list[cgroupfs.CgroupMount]:
    return list({m.mount_point: m for m in cgroupfs.mounts()}.values())


def _enter(mount: cgroupfs.CgroupMount, name: str) -> None:
    parent = mount.mount_point
    for part in (name, "engine"):
        group = f"{parent}/{part}"
        cgroupfs.make(group)
        if os.path.exists(f"{group}/cpuset.cpus") and mount.controller:  # v1: a new one is empty, and takes nobody
            cgroupfs.inherit_cpuset(group)
        parent = group
    if mount.controller:  # one thread that moves itself does not wait for all others, as cgroup.procs does
        cgroupfs.write(parent, "tasks", "0")
    else:
        cgroupfs.add_process(parent, 0)


def remove_cgroups(name: str) -> None:
    """Leave and remove NAME/engine and NAME, at the end; where containers or others are still in them they stay."""
    groups = [f"{mount.mount_point}/{name}" for mount in _hierarchies() if os.path.isdir(f"{mount.mount_point}/{name}")]
    for group in groups:
        try:
            cgroupfs.add_process(os.path.dirname(group), 0)
        except OSError:
            continue
    for group in groups:
        try:
            if not cgroupfs.populated(f"{group}/engine"):
                cgroupfs.remove(f"{group}/engine", timeout_s=0.5)
                os.rmdir(group)
        except OSError:
            continue


# -------------------------------------------------------------------------------------------------- interpreter


def hide_interpreter() -> None:
    """Bind the interpreter, and its library, onto themselves, read-only, in a mount namespace of our own.

    The null device as well: containers get it as a standard descriptor, and through /proc/self/fd a container's root
    could change the mode of the host's.
    """
    unshare(CLONE.NEWNS)
    attach(None, "/", None, MS.REC | MS.SLAVE)
    for path in (*interpreter_files(), "/dev/null"):
        attach(path, path, None, MS.BIND)
        # A bind mount ignores MS_RDONLY until it is remounted; mount(2), NOTES.
        attach(None, path, None, MS.REMOUNT | MS.BIND | MS.RDONLY)


def interpreter_files() -> list[str]:
    """Return the files that are the interpreter and can be written through the path they were opened by."""
    found = {os.path.realpath(sys.executable), os.readlink("/proc/self/exe")}
    with open("/proc/self/maps", "rb", buffering=0) as file:
        for line in os.fsdecode(file.readall()).splitlines():
            path = line[line.find("/") :] if "/" in line else ""
            if os.path.basename(path).startswith("libpython"):
                found.add(path)
    return sorted(path for path in found if os.path.isfile(path) and not os.statvfs(path).f_flag & os.ST_RDONLY)


# ------------------------------------------------------------------------------------------------------ the rest


def _detach(dirs: Dirs) -> None:
    try:
        os.setsid()
    except PermissionError:  # it leads a session already: a keeper that executes itself anew
        pass
    if os.path.exists(dirs.keeper_log) and os.path.getsize(dirs.keeper_log) > _LOG_MAX_BYTES:
        os.rename(dirs.keeper_log, f"{dirs.keeper_log}.1")
    log = os.open(dirs.keeper_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, fd)


def reset_signals() -> None:
    """Undo what was ignored or blocked by the caller (nohup): it would be inherited by every container."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except OSError:  # glibc keeps two for itself
            continue
    for hidden in process.LIBC_SIGNALS:
        process.reset_signal(hidden)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def raise_limits() -> None:
    """Raise soft limits to the hard ones; not the stack's, where "unlimited" changes how memory is laid out."""
    for name in dir(resource):
        if name.startswith("RLIMIT_") and name not in {"RLIMIT_STACK", "RLIMIT_OFILE"}:
            number = getattr(resource, name)
            try:
                _, hard = resource.getrlimit(number)
                resource.setrlimit(number, (hard, hard))
            except (OSError, ValueError):
                continue


def environment(caller: Mapping[str, str]) -> dict[str, str]:
    """Return what is kept of the caller's environment; PYTHONPATH only as far as we are found by it."""
    kept = {name: value for name, value in caller.items() if name in KEPT}
    kept.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    needed = [path for path in caller.get("PYTHONPATH", "").split(":") if path and _holds_us(path)]
    if needed:
        kept["PYTHONPATH"] = ":".join(os.path.abspath(path) for path in needed)
    return kept


def _holds_us(path: str) -> bool:
    return any(os.path.isdir(f"{path}/{package}") for package in ("sampan", "msgspec", "h11", "urllib3", "zstandard"))


if __name__ == "__main__":
    sys.exit(main())
