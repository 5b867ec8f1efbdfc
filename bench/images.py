"""Move images with sampan, docker and podman, in turns, and print what each needed.

    python bench/run.py images [quick] [--only NAME,...] [--work NAME,...] [--on ext4|tmpfs] [--json FILE]

All is in one network namespace with one registry (Debian's docker-registry) on its loopback, and on one filesystem: an
ordinary ext4, loop-mounted from a file in memory, or a tmpfs.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from contenders import Contender, Docker, Podman, Sampan, children, leftovers
from image_inputs import FULL, QUICK, Image, images, sharing
from support.images import busybox_tar
from support.peers import Docker as Dockerd
from support.registry import Registry
from support.sampan import PROGRAM
from turns import CLONE_NEWNS, Runner, cpu_ms, pss_kib

CLONE_NEWNET = 0x40000000
CHANGED_FILES = 10_000
WORK = ("pull", "push", "pack", "save", "load", "commit", "disk")


class Found(NamedTuple):
    """What a contender needed for one kind of work: medians a turn."""

    wall_ms: float
    least_ms: float
    cpu_ms: float


class Mover:
    """What each contender is asked to do with images. Names are whole, with the registry."""

    insecure: tuple[str, ...] = ()

    def __init__(self, contender: Contender, program: str, store: Path) -> None:
        self.contender = contender
        self.name = contender.name
        self.runner: Runner = contender.runner
        self.groups = contender.groups
        self.program = program
        self.store = store

    def __call__(self, *words: str | Path) -> float:
        """Run the client; wall milliseconds."""
        return self.runner(self.program, *words).wall_ms

    def pull(self, name: str) -> float:
        return self("pull", "-q", *self.insecure, name)

    def push(self, name: str) -> float:
        return self("push", "-q", *self.insecure, name)

    def local(self, name: str) -> str:
        """Return the whole name of an image that came from no registry."""
        return name if self.name != "podman" else f"docker.io/{name}"

    def remove(self, *names: str) -> None:
        self("rmi", "-f", *names)

    def used_bytes(self) -> int:
        """What the store takes on the disk."""
        subprocess.run(["sync", "-f", self.store], check=True)
        out = subprocess.run(["du", "-s", "-B1", self.store], check=False, capture_output=True, text=True).stdout
        return int(out.split()[0])


def mover(name: str, base: Path, tar: Path) -> Mover:
    """Set one up under `base`."""
    match name:
        case "sampan":
            return Mover(Sampan(base, tar), PROGRAM, base / "s")
        case "docker":
            return Mover(
                Docker(base, tar, daemon=Dockerd(base / "d", "sampan-bench-docker", own_network=False)),
                "docker",
                base / "d/data",
            )
        case _:
            one = Mover(Podman(base, tar), "podman", base / "p")
            one.insecure = ("--tls-verify=false",)
            return one


# --------------------------------------------------------------------------------------------------------- surroundings


def in_own_network() -> None:
    """Have loopback and nothing else from here on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextmanager
def filesystem(kind: str) -> Iterator[Path]:
    """Give an empty filesystem in memory, the same for everybody."""
    with tempfile.TemporaryDirectory(prefix="sampan-bench-", dir="/dev/shm") as text:
        base, point = Path(text), Path(text) / "fs"
        point.mkdir()
        if kind == "ext4":
            with (base / "disk").open("wb") as file:
                file.truncate(12 << 30)
            subprocess.run(["mkfs.ext4", "-q", base / "disk"], check=True)
            subprocess.run(["mount", "-o", "loop", base / "disk", point], check=True)
        else:
            subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
        try:
            yield point
        finally:
            for _ in range(50):
                if subprocess.run(["umount", point], check=False, stderr=subprocess.DEVNULL).returncode == 0:
                    break
                time.sleep(0.2)


@contextmanager
def moving(name: str, base: Path, tar: Path) -> Iterator[Mover]:
    one = mover(name, base, tar)
    try:
        yield one
    finally:
        one.contender.end()


# ------------------------------------------------------------------------------------------------------------ measuring


def turns_of(
    count: int, movers: Sequence[Mover], work: Callable[[Mover], float], after: Callable[[Mover], object]
) -> dict[str, Found]:
    """Let each do the work in its turn, `count` times after one that doesn't count; `after` is not measured."""
    walls: dict[str, list[float]] = {one.name: [] for one in movers}
    cpu: dict[str, list[float]] = {one.name: [] for one in movers}
    for number in range(count + 1):
        for one in movers:
            before = cpu_ms(one.groups)
            wall = work(one)
            time.sleep(0.3)  # what a server puts off until after its answer belongs to the turn
            spent = cpu_ms(one.groups) - before
            after(one)
            subprocess.run(["sync", "-f", one.store], check=True)
            if number:
                walls[one.name].append(wall)
                cpu[one.name].append(spent)
    return {
        one.name: Found(statistics.median(walls[one.name]), min(walls[one.name]), statistics.median(cpu[one.name]))
        for one in movers
    }


def table(title: str, found: Mapping[str, Found]) -> dict[str, Any]:
    """Print it with the ratio to the first, and return it."""
    print(f"\n{title:<48}{'median ms':>10}{'least ms':>10}{'CPU ms':>10}{'ratio':>8}")
    first = next(iter(found.values()))
    for name, one in found.items():
        ratio = one.wall_ms / first.wall_ms
        print(f"  {name:<46}{one.wall_ms:>10.0f}{one.least_ms:>10.0f}{one.cpu_ms:>10.0f}{ratio:>8.2f}", flush=True)
    return {name: one._asdict() for name, one in found.items()}


class Peak:
    """The greatest sum of the proportional set sizes of sampan's server and workers, looked at again and again."""

    def __init__(self, ours: Sampan) -> None:
        self._keeper, self._server = ours.keeper, ours.server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.server_mib = self.workers_mib = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.server_mib = max(self.server_mib, _pss(self._server))
            workers = [pid for pid in children(self._keeper) if _name(pid) == "sampan-worker"]
            self.workers_mib = max(self.workers_mib, sum(map(_pss, workers)))


def _pss(pid: int) -> float:
    try:
        return pss_kib(pid) / 1024
    except OSError:
        return 0.0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


# ----------------------------------------------------------------------------------------------------------------- work


class Bench:
    """One run: the registry, the images, the contenders."""

    def __init__(self, turns: int, base: Path, registry: Registry, movers: Sequence[Mover]) -> None:
        self.turns = turns
        self.base = base
        self.registry = registry
        self.movers = movers

    def pull(self, image: Image) -> dict[str, Any]:
        name = self.registry.push(f"oci:{image.layout}:it", f"{image.name}:1")
        found: dict[str, Any] = table(
            f"pull: {image.title}",
            turns_of(self.turns, self.movers, lambda one: one.pull(name), lambda one: one.remove(name)),
        )
        ours = next((one for one in self.movers if one.name == "sampan"), None)
        if ours is not None:
            assert isinstance(ours.contender, Sampan)
            with Peak(ours.contender) as peak:
                ours.pull(name)
            ours.remove(name)
            print(f"  sampan's peak PSS, MiB: server {peak.server_mib:.0f}, workers {peak.workers_mib:.0f}")
            found["peak MiB"] = {"server": peak.server_mib, "workers": peak.workers_mib}
        return found

    def push(self, image: Image) -> dict[str, Any]:
        name = self.registry.push(f"oci:{image.layout}:it", f"{image.name}:1")
        for one in self.movers:
            one.pull(name)
        with tempfile.TemporaryDirectory(dir=self.base) as directory:
            targets = Targets(Path(directory))

            def work(one: Mover) -> float:
                target = targets.fresh(f"{image.name}-{one.name}")
                one("tag", name, target)
                return one.push(target)

            found = turns_of(self.turns, self.movers, work, targets.done)
            targets.end()
        for one in self.movers:
            one.remove(name)
        return table(f"push: {image.title}", found)

    def pack(self, image: Image) -> dict[str, Any]:
        """Push what was loaded, and so is at no registry: all must compress it."""
        archive, name = self._archive(image)
        for one in self.movers:
            one("load", "-q", "-i", archive)
        with tempfile.TemporaryDirectory(dir=self.base) as directory:
            targets = Targets(Path(directory))

            def work(one: Mover) -> float:
                target = targets.fresh(f"{image.name}-{one.name}")
                one("tag", one.local(name), target)
                return one.push(target)

            def after(one: Mover) -> None:
                targets.done(one)
                one.remove(one.local(name))
                one("load", "-q", "-i", archive)

            found = turns_of(self.turns, self.movers, work, after)
        for one in self.movers:
            one.remove(one.local(name))
        archive.unlink()
        return table(f"push, never pulled: {image.title}", found)

    def _archive(self, image: Image) -> tuple[Path, str]:
        archive, name = self.base / "archive.tar", f"load/{image.name}:1"
        command = ["skopeo", "copy", "-q", "--insecure-policy", f"oci:{image.layout}:it"]
        subprocess.run([*command, f"docker-archive:{archive}:{name}"], check=True)
        return archive, name

    def save(self, image: Image) -> dict[str, Any]:
        name = self.registry.push(f"oci:{image.layout}:it", f"{image.name}:1")
        archive = self.base / "saved.tar"
        for one in self.movers:
            one.pull(name)
        found = turns_of(
            self.turns, self.movers, lambda one: one("save", "-o", archive, name), lambda _: archive.unlink()
        )
        for one in self.movers:
            one.remove(name)
        return table(f"save: {image.title}", found)

    def load(self, image: Image) -> dict[str, Any]:
        archive, name = self._archive(image)
        found = turns_of(
            self.turns,
            self.movers,
            lambda one: one("load", "-q", "-i", archive),
            lambda one: one.remove(one.local(name)),
        )
        archive.unlink()
        return table(f"load: {image.title}", found)

    def commit(self) -> dict[str, Any]:
        script = f"mkdir /new; cd /new; i=0; while [ $i -lt {CHANGED_FILES} ]; do i=$((i+1)); echo $i > $i; done"
        for one in self.movers:
            one("run", "--network", "none", "--name", "changed", "busybox", "sh", "-c", script)
        found = turns_of(
            self.turns,
            self.movers,
            lambda one: one("commit", "changed", "committed:1"),
            lambda one: one.remove("committed:1" if one.name != "podman" else "localhost/committed:1"),
        )
        for one in self.movers:
            one("rm", "changed")
        return table(f"commit of {CHANGED_FILES:,} changed files", found)

    def disk(self, shared: Sequence[Image]) -> dict[str, Any]:
        names = [self.registry.push(f"oci:{image.layout}:it", f"{image.name}:1") for image in shared]
        used = {}
        print(f"\n{'disk: five images over one base':<48}{'MB':>10}")
        for one in self.movers:
            before = one.used_bytes()
            for name in names:
                one.pull(name)
            used[one.name] = (one.used_bytes() - before) / 1e6
            print(f"  {one.name:<46}{used[one.name]:>10.1f}", flush=True)
            one.remove(*names)
        return used


class Targets:
    """Registries to push to, each new: what is there already is not sent again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self._registry: Registry | None = None
        self._name = ""

    def fresh(self, repository: str) -> str:
        self._count += 1
        directory = self._directory / str(self._count)
        directory.mkdir()
        self._registry = Registry(directory)
        self._name = f"{self._registry.address}/{repository}:1"
        return self._name

    def done(self, one: Mover) -> None:
        one("rmi", self._name)
        self.end()

    def end(self) -> None:
        if self._registry is not None:
            self._registry.end()
            self._registry = None
        subprocess.run(["rm", "-rf", *self._directory.iterdir()], check=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quick", nargs="?", choices=["quick"], help="few turns, a tenth of the bytes")
    parser.add_argument("--only", default="sampan,docker,podman", help="contenders, with commas")
    parser.add_argument("--work", default=",".join(WORK), help="kinds of work in their order, with commas")
    parser.add_argument("--images", default="debian,small,mixed", help="which of the three, with commas")
    parser.add_argument("--on", default="ext4", choices=["ext4", "tmpfs"], help="the filesystem")
    parser.add_argument("--turns", type=int)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("results-images.json"))
    options = parser.parse_args(arguments)
    in_own_network()
    turns = options.turns or (2 if options.quick else 5)
    work = options.work.split(",")
    results: dict[str, Any] = {"kernel": os.uname().release, "cpus": os.cpu_count(), "turns": turns, "on": options.on}
    with ExitStack() as ending:
        scratch = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="sampan-bench-in-", dir="/dev/shm")))
        base = ending.enter_context(filesystem(options.on))
        chosen = images(scratch, QUICK if options.quick else FULL, options.images.split(","))
        (scratch / "registry").mkdir()
        registry = Registry(scratch / "registry")
        ending.callback(registry.end)
        tar = busybox_tar(base / "busybox.tar")
        movers = [ending.enter_context(moving(name, base, tar)) for name in options.only.split(",")]
        bench = Bench(turns, base, registry, movers)
        for kind in work:
            match kind:
                case "commit":
                    results[kind] = bench.commit()
                case "disk":
                    results[kind] = bench.disk(sharing(scratch))
                case _:
                    results[kind] = {image.name: getattr(bench, kind)(image) for image in chosen}
    if left := leftovers():
        sys.stderr.write(f"left behind: {left}\n")
        return 1
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0
