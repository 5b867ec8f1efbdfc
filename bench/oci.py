"""`sampan-runtime`, runc and crun on the same bundle, in turns.

python bench/run.py oci [quick] [--json FILE]

run            `run` of BusyBox's true
profile        the same with a profile of system calls like those that engines give
three          `create`, `start` and `delete --force`, and each of them
exec, state    in a container that runs
floor          the least memory.limit under which `run` works, in 64 KiB steps
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.containers import make_rootfs
from support.oci import OURS, configuration, unseal
from support.peers import remove_cgroups
from turns import Runner, Series, interleave

TOP = Path(__file__).resolve().parents[1]
RUNTIMES = {"sampan-runtime": OURS, "runc": "runc", "crun": "crun"}
STEP_BYTES, MOST_BYTES = 64 << 10, 64 << 20


class Contender:
    """One runtime with its bundles."""

    def __init__(self, name: str, base: Path, rootfs: Path) -> None:
        self.name = name
        self.directory = base / name
        self.group = f"oci-bench-{name}"
        self.directory.mkdir()
        empty = base / f"{name}-empty"
        empty.mkdir()
        self.runner = Runner(self.group, {}, cover_unified=empty if name == "crun" else None)
        self.groups = (self.runner.group,)
        self.plain = self._bundle("plain", rootfs, ["true"])
        self.idle = self._bundle("idle", rootfs, ["sleep", "100000"])
        self.profiled = self._bundle("profiled", rootfs, ["true"], seccomp=profile())

    def _bundle(self, name: str, rootfs: Path, args: list[str], **linux: Any) -> Path:
        directory = self.directory / name
        directory.mkdir()
        found = configuration(rootfs, f"/{self.group}/{name}", args, {})
        found["linux"] |= linux
        (directory / "config.json").write_text(json.dumps(found))
        return directory

    def __call__(self, *words: str | Path) -> float:
        return self.runner(RUNTIMES[self.name], "--root", self.directory / "state", *words).wall_ms

    def run(self) -> float:
        return self("run", "--bundle", self.plain, "c1")

    def run_profiled(self) -> float:
        return self("run", "--bundle", self.profiled, "c1")

    def three(self) -> float:
        return self.create() + self("start", "c1") + self("delete", "--force", "c1")

    def create(self) -> float:
        return self("create", "--bundle", self.idle, "c1")

    def lives_under(self, limit: int) -> bool:
        """Whether `run` works with this memory limit."""
        path = self.plain / "config.json"
        before = path.read_text()
        found = json.loads(before)
        found["linux"]["resources"]["memory"] = {"limit": limit, "swap": limit}
        path.write_text(json.dumps(found))
        try:
            self.run()
        except RuntimeError:
            return False
        finally:
            path.write_text(before)
            try:
                self("delete", "--force", "c1")
            except RuntimeError:  # crun's word for one that is not there
                pass
        return True

    def floor(self) -> int:
        """Search for the least limit: (no, yes] is halved."""
        no, yes = 0, MOST_BYTES // STEP_BYTES
        while yes - no > 1:
            middle = (no + yes) // 2
            no, yes = (no, middle) if self.lives_under(middle * STEP_BYTES) else (middle, yes)
        return yes * STEP_BYTES

    def end(self) -> None:
        self.runner.end()
        remove_cgroups(self.group)


def profile() -> dict[str, Any]:
    """Return the default profile as an engine gives it: what depends on the host is decided."""
    found = json.loads((TOP / "src/sampan/spec/defaults/seccomp.json").read_text())
    rules = [r for r in found["syscalls"] if set(r.get("includes") or {}) <= {"arches"} and not r.get("excludes")]
    rules = [r for r in rules if "amd64" in (r.get("includes") or {"arches": ["amd64"]})["arches"]]
    kept = ("names", "action", "args", "errnoRet")
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{k: r[k] for k in kept if r.get(k) is not None} for r in rules],
    }


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quick", nargs="?", choices=["quick"], help="few turns")
    parser.add_argument("--json", type=Path, default=TOP / "bench" / "results-oci.json")
    options = parser.parse_args(words)
    turns = 7 if options.quick else 40
    results: dict[str, Any] = {"turns": turns}
    with tempfile.TemporaryDirectory(prefix="sampan-bench-", dir="/dev/shm") as directory:
        base = Path(directory)
        rootfs = make_rootfs(base / "rootfs")
        everyone = [Contender(name, base, rootfs) for name in RUNTIMES]
        try:
            results |= _measure(everyone, turns)
        finally:
            for one in everyone:
                one.end()
            unseal()
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def _measure(everyone: list[Contender], turns: int) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def measure(title: str, work: Callable[[Contender], float]) -> None:
        # The loop's variable in a default: each contender its own.
        series = interleave(turns, {one.name: ((lambda one=one: work(one)), one.groups) for one in everyone})
        _table(title, series)
        found[title] = {name: one._asdict() for name, one in series.items()}

    measure("run", Contender.run)
    measure("profile", Contender.run_profiled)
    measure("three", Contender.three)
    for one in everyone:
        one("run", "--detach", "--bundle", one.idle, "c0")
    measure("exec", lambda one: one("exec", "c0", "true"))
    measure("state", lambda one: one("state", "c0"))
    for one in everyone:
        one("delete", "--force", "c0")
    found["floor"] = {one.name: one.floor() for one in everyone}
    sys.stdout.write("\nfloor\n" + "".join(f"  {n:<22}{b / (1 << 20):>10.2f} MiB\n" for n, b in found["floor"].items()))
    return found


def _table(title: str, found: dict[str, Series]) -> None:
    ours = found["sampan-runtime"]
    sys.stdout.write(f"\n{title:<24}{'median ms':>10}{'least ms':>10}{'CPU ms':>10}{'ours/its':>10}{'CPU':>6}\n")
    for name, series in found.items():
        ratios = f"{ours.wall_ms / series.wall_ms:>10.2f}{ours.cpu_ms / series.cpu_ms:>6.2f}"
        sys.stdout.write(f"  {name:<22}{series.wall_ms:>10.1f}{series.least_ms:>10.1f}{series.cpu_ms:>10.1f}{ratios}\n")
    sys.stdout.flush()
