"""A real keeper, real shims and real containers, driven by messages as the engine does it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sampan.dirs import find
from sampan.errors import CLASSES
from sampan.ids import new_id
from sampan.kernel import cgroupfs
from sampan.runtime.plan import encode, plan, plan_exec
from sampan.runtime.probe import probe
from sampan.spec import runtime as oci
from sampan.supervise import messages as m
from support.sampan import has_ended

TINY_SERVER = str(Path(__file__).with_name("tiny_server.py"))
NAMESPACES = ("pid", "mount", "uts", "ipc", "network", "cgroup")
PATH = "PATH=/bin:/usr/bin"


def until(condition: Callable[[], Any], what: str = "it", timeout_s: float = 30) -> Any:
    """Wait until `condition()` is true, and return what it was."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about in {timeout_s} s"
        time.sleep(0.005)
    return found


class Link:
    """A channel: requests and their answers, events as they came."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.events: list[m.Message] = []
        self._decoder = m.Decoder()
        self._seq = 0

    def ask(self, message: m.Message, fds: Sequence[int] = (), timeout_s: float = 20) -> Any:
        """Send a request and return its answer; what is `Refused` is raised."""
        seq = self.post(message, fds)
        while True:
            frame = self._receive(timeout_s)
            assert frame, "the channel has ended"
            if frame.seq == seq:
                if isinstance(frame.message, m.Refused):
                    raise CLASSES[frame.message.error](frame.message.message, frame.message.hint)
                return frame.message
            self.events.append(frame.message)

    def post(self, message: m.Message, fds: Sequence[int] = ()) -> int:
        self._seq += 1
        m.send(self.sock, message, self._seq, fds)
        return self._seq

    def event(self, kind: type, timeout_s: float = 20) -> Any:
        """Wait for an event of a kind, and take it."""
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    self.events.remove(event)
                    return event
            frame = self._receive(timeout_s)
            assert frame, f"the channel has ended without {kind.__name__}"
            self.events.append(frame.message)

    def _receive(self, timeout_s: float) -> m.Frame | None:
        self.sock.settimeout(timeout_s)
        return m.receive(self.sock, self._decoder)

    def ended(self, timeout_s: float = 30) -> bool:
        while select.select([self.sock], [], [], timeout_s)[0]:
            if not self._receive(1):
                return True
        return False

    def close(self) -> None:
        self.sock.close()
        self._decoder.close()


class Container:
    """One container of the instance's: `link` is the first channel to its shim."""

    def __init__(self, world: World, id: str, link: Link, shim_pid: int) -> None:
        self.world = world
        self.id = id
        self.link = link
        self.shim_pid = shim_pid
        self.spec: oci.Spec | None = None

    @property
    def log_path(self) -> str:
        return f"{self.world.root}/{self.id}-json.log"

    def log(self) -> str:
        """Return all that was logged, of both streams."""
        found = []
        for path in (f"{self.log_path}.2", f"{self.log_path}.1", self.log_path):
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    found += [json.loads(line)["log"] for line in file]
        return "".join(found)

    def state(self) -> Any:
        with open(f"{self.world.dirs.shim(self.id)}/state.json", encoding="utf-8") as file:
            return json.load(file)

    def launch(
        self, *args: str, shared: Sequence[str] = (), resources: Any = None, netns: str | None = None, **options: Any
    ) -> m.Launched:
        terminal = options.get("tty", False)
        self.spec = self.world.spec(self.id, args, terminal=terminal, shared=shared, resources=resources)
        if netns:
            self.spec = _in_network(self.spec, netns)
        log = options.pop("log", m.LogConfig(path=self.log_path))
        plan_ = encode(plan(self.spec, self.world.host, id=self.id, cgroup_parent=self.world.parent))
        message = m.Launch(id=self.id, spec=msgspec.json.encode(self.spec), plan=plan_, log=log, **options)
        return self.link.ask(message)

    def execute(
        self, *args: str, exec_id: str = "e1", client: socket.socket | None = None, **options: Any
    ) -> m.Launched:
        assert self.spec
        process = oci.Process(cwd="/", args=args, env=(PATH,), terminal=options.get("tty", False))
        plan_ = encode(plan_exec(process, self.spec, self.world.host, id=self.id, cgroup_parent=self.world.parent))
        document = msgspec.json.encode(process)
        message = m.Exec(exec_id=exec_id, process=document, plan=plan_, **options)
        return self.link.ask(message, [client.fileno()] if client else ())

    def reconnect(self) -> m.Status:
        """Say hello to the container's present shim on a new channel."""
        directory = os.open(self.world.dirs.shim(self.id), os.O_PATH)

        def hello() -> m.Status | None:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(f"/proc/self/fd/{directory}/shim.sock")
            except OSError:
                sock.close()
                return None
            self.link.close()
            self.link = Link(sock)
            try:
                status: m.Status = self.link.ask(m.Hello())
            except (OSError, AssertionError):  # it was just being killed
                return None
            return status

        status: m.Status = until(hello, "the shim's answer")
        os.close(directory)
        self.shim_pid = status.shim_pid
        return status


def _in_network(spec: oci.Spec, path: str) -> oci.Spec:
    """Return a configuration with a network namespace that is there."""
    assert spec.linux
    namespaces = tuple(
        oci.Namespace(type=n.type, path=path if n.type == "network" else None) for n in spec.linux.namespaces
    )
    return msgspec.structs.replace(spec, linux=msgspec.structs.replace(spec.linux, namespaces=namespaces))


class World:
    """An instance with the tiny server; `keeper` is the channel that the server has to the keeper.

    With a `resolv_conf`, that file is what its processes see as the host's.
    """

    def __init__(self, root: Path, resolv_conf: Path | None = None) -> None:
        self.root = root
        self.resolv_conf = resolv_conf
        self.dirs = find(str(root))
        self.host = probe()
        self.containers: list[Container] = []
        self.server_pid = 0
        self.keeper: Link | None = None
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-P",
            "-m",
            "sampan.supervise.origin",
            "--root",
            str(self.root),
            "--server",
            TINY_SERVER,
        ]
        if self.resolv_conf:
            mount = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
            command = ["unshare", "-m", "sh", "-c", mount, str(self.resolv_conf), *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        self.connect()

    @property
    def parent(self) -> str:
        return "/sampan-" + (self.root / "instance").read_text().strip()

    def connect(self) -> None:
        """Get the server's channel to the keeper."""
        if self.keeper:
            self.keeper.close()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(self.dirs.socket)
            pid, fds, _, _ = socket.recv_fds(sock, 100, 1)
        self.server_pid = int(pid)
        self.keeper = Link(socket.socket(fileno=fds[0]))

    @property
    def keeper_pid(self) -> int:
        """Return the process that holds the lock."""
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                with open(f"/proc/{pid}/comm") as file:
                    comm = file.read().strip()
            except OSError:
                continue
            if comm == "sampan-keeper" and os.fsencode(self.root) in words:
                return int(pid)
        raise AssertionError("there is no keeper")

    def spec(
        self, id: str, args: Sequence[str], *, terminal: bool = False, shared: Sequence[str] = (), resources: Any = None
    ) -> oci.Spec:
        """Return a small container of BusyBox: an overlay over one layer."""
        layer = self.root / "layer"
        if not layer.exists():
            for directory in ("bin", "proc", "sys", "dev", "etc", "tmp"):
                (layer / directory).mkdir(parents=True)
            shutil.copy("/bin/busybox", layer / "bin/busybox")
            for name in (
                "sh",
                "cat",
                "sleep",
                "echo",
                "true",
                "seq",
                "dd",
                "stty",
                "kill",
                "yes",
                "head",
                "readlink",
                "tr",
                "sort",
                "printf",
            ):
                (layer / "bin" / name).symlink_to("busybox")
        for name in ("upper", "work", "rootfs"):
            (self.root / "containers" / id / name).mkdir(parents=True)
        own = self.root / "containers" / id
        overlay = (f"lowerdir={layer}", f"upperdir={own}/upper", f"workdir={own}/work")
        if self.host.overlay_lower_plus:
            overlay = (f"lowerdir+={layer}", *overlay[1:])
        return oci.Spec(
            oci_version="1.2.0",
            root=oci.Root(path=f"{own}/rootfs"),
            hostname=id[:12],
            process=oci.Process(cwd="/", args=tuple(args), env=(PATH, "TERM=xterm"), terminal=terminal),
            mounts=(
                oci.Mount(destination="/", type="overlay", source="overlay", options=overlay),
                oci.Mount(destination="/proc", type="proc", source="proc", options=("nosuid", "noexec", "nodev")),
                oci.Mount(destination="/dev", type="tmpfs", source="tmpfs", options=("nosuid", "mode=755")),
                oci.Mount(
                    destination="/dev/pts", type="devpts", source="devpts", options=("newinstance", "ptmxmode=0666")
                ),
            ),
            linux=oci.Linux(
                namespaces=tuple(oci.Namespace(type=n) for n in NAMESPACES if n not in shared),
                cgroups_path=f"{self.parent}/{id}",
                resources=resources,
            ),
        )

    def container(self) -> Container:
        """Fork a shim, without waiting for the answer: as the engine does it."""
        assert self.keeper
        id = new_id()
        ours, theirs = socket.socketpair()
        with theirs:
            forked = self.keeper.ask(m.ForkShim(id=id), [theirs.fileno()])
        link = Link(ours)
        link.ask(m.Hello())
        container = Container(self, id, link, forked.pid)
        self.containers.append(container)
        return container

    def prepare(self, sock: socket.socket) -> Container:
        """Return a container whose shim will be at the other end of `sock`."""
        container = Container(self, new_id(), Link(sock), 0)
        self.containers.append(container)
        return container

    def run(self, *args: str, **options: Any) -> Container:
        container = self.container()
        container.launch(*args, **options)
        return container

    def groups(self) -> list[str]:
        """Return the control groups that this instance has."""
        return [
            entry.path
            for mount in {m.mount_point for m in cgroupfs.mounts()}
            if os.path.isdir(mount + self.parent)
            for entry in os.scandir(mount + self.parent)
            if entry.is_dir()
        ]

    def end(self) -> None:
        """Stop everything that this world has started, and remove it."""
        for container in self.containers:
            container.link.close()
            if os.path.exists(self.dirs.shim(container.id)):
                try:
                    container.reconnect()
                    if container.link.ask(m.Hello()).phase in {"created", "running", "paused"}:
                        container.link.ask(m.Signal(number=signal.SIGKILL, everyone=True))
                        until(lambda c=container: c.link.ask(m.Hello()).phase == "exited", "the end")
                    container.link.ask(m.Forget())
                finally:
                    container.link.close()
        pid = self.keeper_pid
        os.kill(pid, signal.SIGTERM)
        until(lambda: has_ended(pid), "the keeper's end")
        if self.keeper:
            self.keeper.close()
        log = Path(self.dirs.keeper_log).read_text()
        left = [*self.root.glob("run/shims/*"), *self.groups()]
        shutil.rmtree(self.root)
        assert not left
        assert "Traceback" not in log, log
