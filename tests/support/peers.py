"""Debian's own engines, each started privately and ended by pid: dockerd in a network namespace, podman, runc, crun."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from support.registry import Registry
from support.sampan import Result, groups_in, groups_named, wait_until


class Docker:
    """A dockerd with all its state in one directory, and the real client pointed at a socket."""

    def __init__(
        self,
        directory: Path,
        cgroup: str,
        *,
        own_network: bool = True,
        bridged: bool = False,
        more: Sequence[str] = (),
    ) -> None:
        """`bridged`: it makes networks, and sets forwarding and firewall rules in the namespace it is in."""
        self.directory, self.cgroup = directory, cgroup
        self.socket = directory / "docker.sock"
        self._plugins = Path("/run/docker/plugins").exists()
        directory.mkdir(parents=True, exist_ok=True)
        self._log = (directory / "dockerd.log").open("wb")
        options = [f"--cgroup-parent={cgroup}", *more]
        if not bridged:
            options += ["--bridge=none", "--iptables=false", "--ip-forward=false"]
        self.server = subprocess.Popen(
            [*(("unshare", "-n") if own_network else ()), "dockerd", "--data-root", directory / "data",
             "--exec-root", directory / "exec", "--pidfile", directory / "pid", "--host", f"unix://{self.socket}",
             *options],
            stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(lambda: client(self.socket, directory, "version").code == 0, timeout=60, what="dockerd answers")

    def __call__(self, *args: str | Path, **how: Any) -> Result:
        return client(self.socket, self.directory, *args, **how)

    def registry(self, directory: Path) -> Registry:
        """Start a registry where this dockerd can reach it: in the same network namespace, which gets its loopback."""
        within = ("nsenter", f"--net=/proc/{self.server.pid}/ns/net")
        subprocess.run([*within, "ip", "link", "set", "lo", "up"], check=True)
        return Registry(directory, within)

    def remove_everything(self) -> None:
        """Remove all containers with their volumes, all networks and all images."""
        if names := self("ps", "-aq").out.split():
            self("rm", "-f", "-v", *names, timeout=600)
        self("network", "prune", "-f")
        for image in self("images", "-aq").out.split():
            self("rmi", "-f", image)

    def end(self) -> None:
        self.server.terminate()
        self.server.wait(60)
        self._log.close()
        subprocess.run(["umount", "-R", self.directory], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.directory, ignore_errors=True)
        if not self._plugins:
            shutil.rmtree("/run/docker", ignore_errors=True)
        remove_cgroups(self.cgroup)


def client(
    socket: Path,
    home: Path,
    *args: str | Path,
    check: bool = False,
    input: str | None = None,
    timeout: float = 120,
    env: Mapping[str, str] = {},
) -> Result:
    """Run the real docker client against a socket, with none of the user's configuration."""
    settings = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
    settings |= {
        "DOCKER_HOST": f"unix://{socket}",
        "DOCKER_CONFIG": f"{home}/docker-config",
        "DOCKER_BUILDKIT": "0",
        **env,
    }
    argv = ["docker", *map(str, args)]
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input.encode()}
    done = subprocess.run(argv, env=settings, capture_output=True, timeout=timeout, check=False, **given)
    result = Result(
        tuple(argv), done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    if check and result.code:
        raise AssertionError(f"{' '.join(argv)}: exit code {result.code}: {result.err}")
    return result


PODMAN_CONTAINERS = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{0}/tmp"
volume_path = "{0}/volumes"
[network]
network_config_dir = "{0}/networks"
"""
PODMAN_STORAGE = """
[storage]
driver = "overlay"
runroot = "{0}/run"
graphroot = "{0}/root"
"""


def podman_environment(directory: Path) -> dict[str, str]:
    """Write podman's configuration for a private store; return the environment that selects it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "containers.conf").write_text(PODMAN_CONTAINERS.format(directory))
    (directory / "storage.conf").write_text(PODMAN_STORAGE.format(directory))
    return {
        "CONTAINERS_CONF": f"{directory}/containers.conf",
        "CONTAINERS_STORAGE_CONF": f"{directory}/storage.conf",
        "TMPDIR": str(directory),
    }


def runc_bundle(directory: Path, rootfs: Path, cgroup: str, args: list[str]) -> Path:
    """Write a bundle as `runc spec` makes it, without a terminal, in a control group of this name."""
    directory.mkdir(parents=True)
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    path = directory / "config.json"
    configuration = json.loads(path.read_text())
    configuration["process"] |= {"terminal": False, "args": args, "rlimits": []}
    configuration["root"] = {"path": str(rootfs), "readonly": False}
    configuration["linux"]["cgroupsPath"] = cgroup
    path.write_text(json.dumps(configuration))
    return directory


def remove_cgroups(name: str) -> None:
    """Remove the control groups /NAME of every hierarchy, with whoever is still in one of them."""
    for parent in groups_named(name):
        for path in groups_in(parent):
            wait_until(lambda path=path: _removed(path), what=f"{path} is gone")


def _removed(group: Path) -> bool:
    """Kill whoever is in a group, and remove it; they take a moment to leave."""
    try:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        group.rmdir()
    except OSError as e:
        return e.errno in {errno.ENOENT, errno.ENODEV}  # its own engine has removed it meanwhile
    return True
