"""The five engines, each with private state, all doing the same work on the same BusyBox root filesystem."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.peers import Docker as Dockerd, podman_environment, remove_cgroups, runc_bundle
from support.sampan import CGROUPS, PROGRAM, Sampan as Instance
from turns import CPUACCT, Runner, pss_kib


class Contender(ABC):
    """What is asked of each; `groups` hold the CPU time of all its processes."""

    name = ""
    program = ""  # its client
    network = "none"  # that containers are on
    runner: Runner
    environment: Mapping[str, str]  # of its client
    groups: Sequence[Path] = ()

    @abstractmethod
    def run_command(self) -> list[str]:
        """Return the command line that runs `true` in a new container and removes it."""

    def run(self) -> float:
        """Run `true` in a new container; wall milliseconds."""
        return self.runner(*self.run_command()).wall_ms

    @abstractmethod
    def execute(self) -> float:
        """Run `true` in the running container c0; wall milliseconds."""

    @abstractmethod
    def start_command(self, name: str, *command: str, flags: Sequence[str] = ()) -> list[str]:
        """Return the command line that starts a container in the background."""

    def start(self, name: str, *command: str, flags: Sequence[str] = ()) -> None:
        """Start a container in the background."""
        self.runner(*self.start_command(name, *command, flags=flags))

    @abstractmethod
    def end(self) -> None:
        """Stop all of it and remove its state."""


class Sampan(Contender):
    name = "sampan"
    program = PROGRAM

    def __init__(self, base: Path, tar: Path) -> None:
        self.instance = Instance(base / "s")
        self.instance("import", tar, "busybox")
        self.environment = {"SAMPAN_ROOT": str(self.instance.root)}
        self.runner = Runner("sampan-bench-sampan", self.environment)
        # Keeper and server left every group at their start; their CPU time is to be counted.
        for pid in (self.keeper, self.server):
            self.runner.adopt(pid)
        self.groups = (self.runner.group, CPUACCT / f"sampan-{self.instance.instance}")

    @property
    def keeper(self) -> int:
        return self.instance.info("KeeperPid")

    @property
    def server(self) -> int:
        return self.instance.info("ServerPid")

    def run_command(self) -> list[str]:
        return [PROGRAM, "run", "--rm", "--network", self.network, "busybox", "true"]

    def execute(self) -> float:
        return self.runner(PROGRAM, "exec", "c0", "true").wall_ms

    def start_command(self, name: str, *command: str, flags: Sequence[str] = ()) -> list[str]:
        return [PROGRAM, "run", "-d", "--name", name, "--network", self.network, *flags, "busybox", *command]

    def ps(self) -> float:
        return self.runner(PROGRAM, "ps").wall_ms

    def shims(self) -> list[int]:
        """The processes that are there for the containers: every child of the keeper but the server."""
        return [pid for pid in children(self.keeper) if pid != self.server]

    def end(self) -> None:
        self.instance.remove_everything()
        self.runner.end()
        self.instance.end()
        remove_cgroups("sampan-bench-sampan")


class Docker(Contender):
    name = program = "docker"

    def __init__(self, base: Path, tar: Path, daemon: Dockerd | None = None) -> None:
        self.docker = daemon or Dockerd(base / "d", "sampan-bench-docker")
        self.docker("import", tar, "busybox", check=True)
        self.environment = {"DOCKER_HOST": f"unix://{self.docker.socket}"}
        self.runner = Runner("sampan-bench-docker", self.environment)
        self.groups = (self.runner.group,)
        for pid in self.daemons():
            self.runner.adopt(pid)

    def run_command(self) -> list[str]:
        return ["docker", "run", "--rm", "--network", self.network, "busybox", "true"]

    def execute(self) -> float:
        return self.runner("docker", "exec", "c0", "true").wall_ms

    def start_command(self, name: str, *command: str, flags: Sequence[str] = ()) -> list[str]:
        return ["docker", "run", "-d", "--name", name, "--network", self.network, *flags, "busybox", *command]

    def ps(self) -> float:
        return self.runner("docker", "ps").wall_ms

    def daemons(self) -> list[int]:
        return [self.docker.server.pid, *descendants(self.docker.server.pid)]

    def shims(self) -> list[int]:
        return [pid for pid in by_name("containerd-shim") if str(self.docker.directory) in command_line(pid)]

    def end(self) -> None:
        names = self.docker("ps", "-aq").out.split()
        if names:
            self.docker("rm", "-f", *names, timeout=600)
        self.runner.end()
        self.docker.end()


class Podman(Contender):
    name = program = "podman"

    def __init__(self, base: Path, tar: Path) -> None:
        self.directory = base / "p"
        self.environment = podman_environment(self.directory)
        self.runner = Runner("sampan-bench-podman", self.environment)
        self.groups = (self.runner.group,)
        self.runner("podman", "import", "-q", tar, "busybox")

    def run_command(self) -> list[str]:
        return [*self._run(), "--rm", "busybox", "true"]

    def _run(self) -> list[str]:
        return ["podman", "run", "--network", self.network, "--cgroup-parent", "/sampan-bench-podman/all"]

    def execute(self) -> float:
        return self.runner("podman", "exec", "c0", "true").wall_ms

    def start_command(self, name: str, *command: str, flags: Sequence[str] = ()) -> list[str]:
        return [*self._run(), "-d", "--name", name, *flags, "busybox", *command]

    def shims(self) -> list[int]:
        return [pid for pid in by_name("conmon") if str(self.directory) in command_line(pid)]

    def end(self) -> None:
        environment = {**os.environ, **self.environment}
        for command in (["rm", "-f", "-a", "-t", "0"], ["system", "reset", "-f"]):
            subprocess.run(["podman", *command], env=environment, check=False, capture_output=True, timeout=600)
        self.runner.end()
        subprocess.run(["umount", "-R", self.directory / "root/overlay"], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.directory, ignore_errors=True)
        remove_cgroups("sampan-bench-podman")


class Runtime(Contender):
    """runc or crun on a bundle prepared before."""

    def __init__(self, name: str, base: Path, tar: Path) -> None:
        self.name, self.directory = name, base / name
        rootfs = self.directory / "rootfs"
        rootfs.mkdir(parents=True)
        subprocess.run(["tar", "-xf", tar, "-C", rootfs], check=True)
        group = f"sampan-bench-{name}"
        self.bundle = runc_bundle(self.directory / "run", rootfs, f"/{group}/run", ["true"])
        self.idle = runc_bundle(self.directory / "idle", rootfs, f"/{group}/idle", ["sleep", "100000"])
        empty = self.directory / "empty"
        empty.mkdir()
        self.environment: dict[str, str] = {}
        self.runner = Runner(group, self.environment, cover_unified=empty if name == "crun" else None)
        self.groups = (self.runner.group,)
        self.state = [name, "--root", str(self.directory / "state")]

    def run_command(self) -> list[str]:
        return [*self.state, "run", "--bundle", str(self.bundle), "c"]

    def execute(self) -> float:
        return self.runner(*self.state, "exec", "c0", "true").wall_ms

    def start_command(self, name: str, *command: str, flags: Sequence[str] = ()) -> list[str]:
        del command, flags
        return [*self.state, "run", "--detach", "--bundle", str(self.idle), name]

    def end(self) -> None:
        self.runner(*self.state, "delete", "--force", "c0")
        time.sleep(0.2)
        self.runner.end()
        shutil.rmtree(self.directory, ignore_errors=True)
        remove_cgroups(f"sampan-bench-{self.name}")


def present() -> list[str]:
    """Names of the contenders that are installed here."""
    needed = {"docker": ("docker", "dockerd"), "podman": ("podman",), "runc": ("runc",), "crun": ("crun", "runc")}
    found = [name for name, programs in needed.items() if all(map(shutil.which, programs))]
    if missing := needed.keys() - set(found):
        sys.stderr.write(f"not installed, left out: {', '.join(sorted(missing))}\n")
    return ["sampan", *found]


def make(name: str, base: Path, tar: Path) -> Contender:
    """Set one contender up under `base`."""
    match name:
        case "sampan":
            return Sampan(base, tar)
        case "docker":
            return Docker(base, tar)
        case "podman":
            return Podman(base, tar)
        case _:
            return Runtime(name, base, tar)


def pss_of(pids: Sequence[int]) -> float:
    """Sum of their proportional set sizes, MiB."""
    return sum(pss_kib(pid) for pid in pids) / 1024


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def descendants(pid: int) -> list[int]:
    return [found for child in children(pid) for found in (child, *descendants(child))]


def by_name(name: str) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and name.startswith(_comm(entry).rstrip("\n")) and _comm(entry)
    ]


def _comm(entry: Path) -> str:
    try:
        return (entry / "comm").read_text().strip()
    except OSError:
        return ""


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def leftovers() -> list[str]:
    """Control groups of the bench that are still there."""
    return [str(path) for path in CGROUPS.glob("*/sampan-bench-*")]
