"""The newest builders that Debian has, in a root of their own: BuildKit and classic (dockerd), and buildah."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.images import cache
from support.peers import remove_cgroups
from support.sampan import Result, wait_until

SUITE = "forky"
"""Its dockerd 28.5 has BuildKit 0.25, whose Dockerfile frontend is 1.19; bookworm's has 1.2 and no client for it."""
PACKAGES = "docker.io,docker-cli,docker-buildx,buildah,netavark,xz-utils,iptables,ca-certificates,git"
CGROUP = "sampan-goldens"
ENTER = f"""
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
for name in proc sys dev; do mount --rbind /$name "$1/$name"; done
for name in run tmp; do mount -t tmpfs tmpfs "$1/$name"; done
mount --bind "$2" "$1/srv"
ip link set lo up
cd "$1"
pivot_root . mnt
umount -l /mnt
exec dockerd --data-root /srv/d/data --exec-root /srv/d/exec --pidfile /srv/d/pid --host unix:///srv/d/socket \\
    --cgroup-parent={CGROUP} --bridge=none --iptables=false --ip-forward=false
"""


def root() -> Path:
    """Return the cached root filesystem with the builders in it; mmdebstrap makes it the first time."""
    target = cache() / "debian-builders-2"
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}")
        options = [f"--include={PACKAGES}", "--aptopt=APT::Install-Recommends false"]
        # A mirror may keep a suite that has moved on.
        options += ["--aptopt=Acquire::Check-Valid-Until false"]
        options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
        command = ["mmdebstrap", "--quiet", "--variant=minbase", *options, SUITE, str(partial)]
        subprocess.run([*command, "http://deb.debian.org/debian"], check=True, timeout=900, stdin=subprocess.DEVNULL)
        partial.rename(target)
    return target


class Builders:
    """A dockerd in namespaces of its own, where `directory` is /srv; its clients and buildah run there too."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "d").mkdir(parents=True)
        self._log = (directory / "dockerd.log").open("wb")
        self.server = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", ENTER, "sh", root(), directory],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        wait_until(lambda: self("docker", "version").code == 0, timeout=60, what="dockerd answers")

    def __call__(self, *command: str, cwd: str = "/srv", env: Mapping[str, str] = {}, check: bool = False) -> Result:
        """Run a command where dockerd is; paths are those that it sees."""
        settings = {
            "DOCKER_HOST": "unix:///srv/d/socket",
            "HOME": "/srv/d",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            **env,
        }
        enter = ["nsenter", "--mount", "--net", f"--target={self.server.pid}", "/usr/bin/env", f"--chdir={cwd}"]
        done = subprocess.run(
            [*enter, *command], env=settings, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=120
        )
        result = Result(
            command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if check and result.code:
            raise AssertionError(f"{' '.join(command)}: exit code {result.code}: {result.out}{result.err}")
        return result

    def inside(self, path: Path) -> str:
        """Return what a path under `directory` is called where dockerd is."""
        return f"/srv/{path.relative_to(self.directory)}"

    def buildkit(self, args: Sequence[str], **how: object) -> Result:
        return self("docker", "build", "--progress=plain", *args, **how)  # type: ignore[arg-type]

    def classic(self, args: Sequence[str], *, env: Mapping[str, str] = {}, **how: object) -> Result:
        return self("docker", "build", *args, env={**env, "DOCKER_BUILDKIT": "0"}, **how)  # type: ignore[arg-type]

    def buildah(self, verb: str, args: Sequence[str], **how: object) -> Result:
        """Run buildah with a private store, its steps confined by nothing but chroot, which works everywhere."""
        store = ["--root", "/srv/buildah", "--runroot", "/run/buildah", "--storage-driver", "vfs"]
        return self("buildah", *store, verb, *args, **how)  # type: ignore[arg-type]

    def within(self) -> tuple[str, ...]:
        """Return what starts a program of the host's in the builders' network."""
        return ("nsenter", f"--net=/proc/{self.server.pid}/ns/net")

    def end(self) -> None:
        self.server.terminate()
        self.server.wait(60)
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        remove_cgroups(CGROUP)
