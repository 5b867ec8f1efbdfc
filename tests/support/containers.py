"""Containers of the runtime alone, without keeper, image or engine: BusyBox on an overlay, and what they say."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from sampan.kernel import process
from sampan.runtime import container
from sampan.runtime.container import Running
from sampan.runtime.plan import Plan, decode, encode, plan, plan_exec
from sampan.runtime.probe import probe
from sampan.spec.defaults import capabilities, paths
from sampan.spec.runtime import (
    SECCOMP,
    Capabilities,
    Linux,
    Mount,
    Namespace,
    Process,
    Root,
    Spec,
    User,
)

HOST = probe()
PARENT = f"/sampan-test-{os.getpid()}"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:www:/srv:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:33:\nextra:x:44:web\nmore:x:55:\n"

SAFE = ("nosuid", "noexec", "nodev")
MOUNTS = (
    Mount(destination="/proc", type="proc", source="proc", options=SAFE),
    Mount(destination="/dev", type="tmpfs", source="tmpfs", options=("nosuid", "strictatime", "mode=755", "size=64m")),
    Mount(
        destination="/dev/pts",
        type="devpts",
        source="devpts",
        options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    Mount(destination="/sys", type="sysfs", source="sysfs", options=(*SAFE, "ro")),
    Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=(*SAFE, "ro")),
    Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=SAFE),
    Mount(destination="/dev/shm", type="tmpfs", source="shm", options=(*SAFE, "mode=1777", "size=64m")),
)
NAMESPACES = ("mount", "pid", "network", "uts", "ipc", "cgroup")


class Said(NamedTuple):
    """What a container's program left."""

    code: int
    out: str
    err: str


def make_rootfs(path: Path) -> Path:
    """Make a layer with BusyBox, three users and a few directories."""
    for name in ("bin", "etc", "tmp", "srv", "root", "proc", "sys", "dev"):
        (path / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", path / "bin/busybox")
    for applet in (
        "sh echo ls cat id mount umount hostname ps sleep true false env stat ip grep readlink touch mkdir ln chmod "
        "mknod dd kill pwd test wc head tail tr tty trap find dirname cp rm seq usleep"
    ).split():
        (path / "bin" / applet).symlink_to("busybox")
    (path / "etc/passwd").write_text(PASSWD)
    (path / "etc/group").write_text(GROUP)
    (path / "tmp").chmod(0o1777)
    return path


class Box:
    """Specs, plans and runs over one layer; each run has an upper directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lower = make_rootfs(directory / "lower")
        self._count = 0

    def spec(self, *args: str, mounts: tuple[Mount, ...] = (), **process: object) -> Spec:
        """Return Docker's default container for `args`."""
        self._count += 1
        here = Path(tempfile.mkdtemp(dir=self.directory))
        for name in ("upper", "work", "rootfs"):
            (here / name).mkdir(parents=True)
        layers = (f"lowerdir+={self.lower}", f"upperdir={here}/upper", f"workdir={here}/work")
        caps = capabilities.DEFAULT
        fields: dict[str, object] = {
            "env": ("PATH=/bin",),
            "user": User(),
            "capabilities": Capabilities(bounding=caps, effective=caps, permitted=caps),
        }
        return Spec(
            oci_version="1.2.0",
            root=Root(path=f"{here}/rootfs"),
            process=Process(args=args, **{**fields, **process}),
            hostname="box",
            mounts=(Mount(destination="/", type="overlay", source="overlay", options=layers), *MOUNTS, *mounts),
            annotations={SECCOMP: "default"},
            linux=Linux(
                namespaces=tuple(Namespace(type=t) for t in NAMESPACES),
                masked_paths=paths.MASKED,
                readonly_paths=paths.READONLY,
            ),
        )

    def upper(self, spec: Spec) -> Path:
        """Return where what the container writes ends up."""
        return Path(spec.root.path).parent / "upper"

    def plan(self, spec: Spec) -> Plan:
        """Plan it, as it comes out of a message."""
        made = plan(spec, HOST, id=f"c{self._count}", cgroup_parent=PARENT)
        assert decode(encode(made)) == made
        return made

    def run(self, spec: Spec, stdin: bytes = b"") -> Said:
        """Run a container to its end and remove it."""
        with self.running(spec, stdin) as (_, finish):
            return finish()

    @contextmanager
    def running(self, spec: Spec, stdin: bytes = b"") -> Iterator[tuple[Running, Finish]]:
        """Yield a running container and a function that waits for it; whatever is left of it is removed."""
        pipes = Pipes(stdin)
        try:
            box = container.create(self.plan(spec), pipes.theirs)
        except BaseException:
            pipes.close()
            raise
        pipes.close_theirs()
        finish = Finish(box, pipes)
        try:
            yield box, finish
        finally:
            finish.end()
            container.delete(box.cgroups)
            pipes.close()

    def exec(self, spec: Spec, box: Running, *args: str, stdin: bytes = b"", **fields: object) -> Said:
        """Run another process in it to its end."""
        process_ = msgspec.structs.replace(spec.process, args=args, **fields)
        made = plan_exec(process_, spec, HOST, id=self.plan_id(box), cgroup_parent=PARENT)
        pipes = Pipes(stdin)
        try:
            other = container.exec_process(decode(encode(made)), box.pidfd, pipes.theirs)
            pipes.close_theirs()
            return Finish(other, pipes)()
        finally:
            pipes.close()

    @staticmethod
    def plan_id(box: Running) -> str:
        """Return the id that the container's groups are named by."""
        return box.cgroups[0][1].rpartition("/")[2] if box.cgroups else ""


class Pipes:
    """Three pipes as a program's standard descriptors."""

    def __init__(self, stdin: bytes) -> None:
        in_r, in_w = os.pipe()
        out_r, out_w = os.pipe()
        err_r, err_w = os.pipe()
        os.write(in_w, stdin)
        os.close(in_w)
        self.theirs = (in_r, out_w, err_w)
        self.ours = (out_r, err_r)
        self._open = {in_r, out_w, err_w, out_r, err_r}

    def close_theirs(self) -> None:
        self._close(self.theirs)

    def close(self) -> None:
        self._close(tuple(self._open))

    def _close(self, fds: tuple[int, ...]) -> None:
        for fd in fds:
            if fd in self._open:
                os.close(fd)
                self._open.discard(fd)

    def read(self) -> tuple[str, str]:
        texts = []
        for fd in self.ours:
            chunks = []
            while chunk := os.read(fd, 65536):
                chunks.append(chunk)
            texts.append(b"".join(chunks).decode(errors="replace"))
        return texts[0], texts[1]


class Finish:
    """Waits for a process once, and says how it ended."""

    def __init__(self, box: Running, pipes: Pipes) -> None:
        self._box, self._pipes = box, pipes
        self._ended = False

    def __call__(self) -> Said:
        out, err = self._pipes.read()
        return Said(self._wait(), out, err)

    def wait_for_output(self) -> None:
        """Return once it has said something, which stays to be read."""
        select.select([self._pipes.ours[0]], [], [])

    def _wait(self) -> int:
        self._ended = True
        ended = os.waitid(os.P_PIDFD, self._box.pidfd, os.WEXITED)
        os.close(self._box.pidfd)
        return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status

    def end(self) -> None:
        """Kill it, unless it has ended."""
        if not self._ended:
            process.pidfd_send_signal(self._box.pidfd, signal.SIGKILL)
            self._wait()
        if self._box.console is not None:
            os.close(self._box.console)
            self._box.console = None


def all_of_console(console: int) -> bytes:
    """Return what programs that have ended said on a terminal: it reaches this side in pieces, also after their end."""
    said = b""
    try:
        while piece := os.read(console, 4096):
            said += piece
    except OSError as e:
        if e.errno != errno.EIO:  # nobody has it open any more
            raise
    return said


def with_process(spec: Spec, **fields: object) -> Spec:
    """Return the same container with other fields of its process."""
    return msgspec.structs.replace(spec, process=msgspec.structs.replace(spec.process, **fields))


def with_linux(spec: Spec, **fields: object) -> Spec:
    """Return the same container with other fields of its `linux` part."""
    return msgspec.structs.replace(spec, linux=msgspec.structs.replace(spec.linux, **fields))


def facts(directory: Path) -> dict[str, set[str]]:
    """Return what a container of a box could leave behind: mounts, groups, children, open descriptors."""
    groups = [
        os.path.join(point, PARENT.lstrip("/"), name)
        for _, point in HOST.cgroup_mounts
        if os.path.isdir(f"{point}{PARENT}")
        for name in os.listdir(f"{point}{PARENT}")
        if os.path.isdir(f"{point}{PARENT}/{name}")
    ]
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        children = file.read().split()
    with open("/proc/self/mountinfo") as file:
        mounts = [line for line in file if str(directory) in line]
    found = {"groups": groups, "children": children, "mounts": mounts, "fds": os.listdir("/proc/self/fd")}
    return {kind: set(names) for kind, names in found.items()}


def left_behind(before: dict[str, set[str]], directory: Path) -> dict[str, set[str]]:
    """Return what is there now and was not before; what other tests had left in this process may go meanwhile."""
    new = {kind: names - before[kind] for kind, names in facts(directory).items()}
    return {kind: names for kind, names in new.items() if names}


def remove_parents() -> None:
    """Remove the groups that the tests' containers were in."""
    from sampan.kernel import cgroupfs

    for _, point in HOST.cgroup_mounts:
        cgroupfs.remove(f"{point}{PARENT}")
