"""OCI runtimes by their command line: ours, Debian's runc and crun, and bundles for them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.containers import HOST, make_rootfs
from support.sampan import Result, groups_in, wait_until

OURS = str(Path(sys.executable).with_name("sampan-runtime"))
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]

# crun 1.8 takes a v2 hierarchy beside v1 for the only one: it is covered by an empty directory.
_CRUN = 'mount --bind "$1" /sys/fs/cgroup/unified && shift && exec crun "$@"'


class Runtime:
    """One runtime with a root of its own: call it with a command line."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.root = directory / "state"
        self.cgroup = f"oci-{os.getpid()}-{name}"
        self._count = 0
        self.rootfs = make_rootfs(directory / "rootfs")
        self._program = {"sampan-runtime": [OURS], "runc": ["runc"], "crun": self._crun()}[name]

    def _crun(self) -> list[str]:
        if not os.path.ismount("/sys/fs/cgroup/unified"):
            return ["crun"]
        empty = self.directory / "empty"
        empty.mkdir()
        return ["unshare", "-m", "sh", "-c", _CRUN, "crun", str(empty)]

    def command(self, *args: str | Path) -> list[str]:
        """Return the whole command line."""
        return [*self._program, "--root", str(self.root), *map(str, args)]

    def __call__(
        self,
        *args: str | Path,
        check: bool = True,
        input: str = "",
        pass_fds: Sequence[int] = (),
        third: int | None = None,
        env: Mapping[str, str] = {},
        timeout: float = 60,
    ) -> Result:
        """Run it to its end. What it leaves in the background may keep the output: files take that.

        `third` is what it gets as its descriptor 3.
        """
        fds, place = (pass_fds, None) if third is None else ((3,), lambda: os.dup2(third, 3))
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            done = subprocess.run(
                self.command(*args), input=input.encode(), stdout=out, stderr=err, pass_fds=fds, check=False,
                timeout=timeout, env={**os.environ, **env}, preexec_fn=place,
            )  # fmt: skip
            out.seek(0)
            err.seek(0)
            said = out.read().decode(errors="replace"), err.read().decode(errors="replace")
        result = Result(tuple(map(str, args)), done.returncode, *said)
        assert not check or result.code == 0, f"{self.name} {' '.join(result.args)}: {result.code}: {result.err}"
        return result

    def bundle(self, *args: str, **process: Any) -> Bundle:
        """Write a bundle for a program on the shared root filesystem."""
        self._count += 1
        id = f"c{self._count}"
        directory = self.directory / "bundles" / id
        directory.mkdir(parents=True)
        return Bundle(self, id, directory, configuration(self.rootfs, f"/{self.cgroup}/{id}", args, process))

    def state(self, id: str) -> dict[str, Any]:
        """Return a container's state."""
        return dict(json.loads(self("state", id).out))

    def status(self, id: str) -> str:
        """Return its status; "gone" where there is no such container."""
        said = self("state", id, check=False)
        return json.loads(said.out)["status"] if said.code == 0 else "gone"

    def leftovers(self) -> set[str]:
        """Return what containers of this runtime have left: state, control groups, mounts."""
        states = {f"state {name}" for name in os.listdir(self.root)} if self.root.exists() else set()
        groups = {
            f"group {point}/{self.cgroup}/{name}"
            for _, point in HOST.cgroup_mounts
            if os.path.isdir(f"{point}/{self.cgroup}")
            for name in os.listdir(f"{point}/{self.cgroup}")
            if os.path.isdir(f"{point}/{self.cgroup}/{name}")
        }
        with open("/proc/self/mountinfo") as file:
            mounts = {line.strip() for line in file if str(self.directory) in line}
        return states | groups | mounts

    def end(self) -> None:
        """Remove every container, and the groups that they were in."""
        if self.root.exists():
            for id in os.listdir(self.root):
                self("delete", "--force", id, check=False)
        for point in {point for _, point in HOST.cgroup_mounts} | {"/sys/fs/cgroup/unified"}:
            for group in groups_in(Path(f"{point}/{self.cgroup}")):
                with suppress(OSError):
                    group.rmdir()
        unseal()


class Bundle:
    """A directory with config.json, whose container has the id `id`."""

    def __init__(self, runtime: Runtime, id: str, directory: Path, configuration: dict[str, Any]) -> None:
        self.runtime, self.id, self.directory, self.configuration = runtime, id, directory, configuration
        self.write()

    def write(self) -> None:
        """Write the configuration as it is now."""
        (self.directory / "config.json").write_text(json.dumps(self.configuration))

    def change(self, part: str, **fields: Any) -> Bundle:
        """Set fields of one part of the configuration ("" is the whole)."""
        (self.configuration[part] if part else self.configuration).update(fields)
        self.write()
        return self

    def run(self, *options: str | Path, check: bool = False, **how: Any) -> Result:
        return self.runtime("run", *options, "--bundle", self.directory, self.id, check=check, **how)

    def create(self, *options: str | Path, check: bool = True, **how: Any) -> Result:
        return self.runtime("create", *options, "--bundle", self.directory, self.id, check=check, **how)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yield the id of a container that runs in the background."""
        self.run("--detach", check=True)
        try:
            yield self.id
        finally:
            self.runtime("delete", "--force", self.id)

    def delete(self) -> None:
        self.runtime("delete", "--force", self.id)


def configuration(rootfs: Path, cgroup: str, args: Sequence[str], process: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plain container: five namespaces, the usual mounts, a few capabilities."""
    safe = ["nosuid", "noexec", "nodev"]
    devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(args),
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            **process,
        },
        "root": {"path": str(rootfs), "readonly": False},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": safe},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": devpts},
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")],
        },
    }


class ConsoleSocket:
    """What an engine listens at for a terminal's master."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(1)
        self._listening.settimeout(30)

    def receive(self) -> int:
        """Return the master that was sent."""
        connection, _ = self._listening.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        return fds[0]

    def close(self) -> None:
        self._listening.close()
        self.path.unlink()


def unseal() -> None:
    """Take away the interpreter that our runtime's script has left for its next commands."""
    start = Path(f"/run/sampan-runtime/start{OURS}")
    if (start / "python").exists():
        subprocess.run(["umount", start / "python"], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(start, ignore_errors=True)


def stopped(runtime: Runtime, id: str) -> None:
    """Wait until a container has stopped."""
    wait_until(lambda: runtime.status(id) == "stopped", what=f"{id} has stopped")
