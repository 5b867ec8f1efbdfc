"""Do the same work with sampan, docker, podman, runc and crun, in turns, and print what each needed.

    python bench/run.py [quick] [--only NAME,...] [--json FILE]
    python bench/run.py images …                                   pull, push, save, load, commit: bench/images.py
    python bench/run.py networks …                                 starts, ports, traffic, names: bench/networks.py
    python bench/run.py oci …                                      sampan-runtime on bundles: bench/oci.py
    python bench/run.py builds …                                   Dockerfiles: bench/builds.py
    python bench/run.py soak …                                     many lives, and what they leave: bench/soak.py
    python bench/run.py crowd …                                    two hundred containers: bench/crowd.py
    python bench/run.py lifecycle …                                many containers, logs, lists: bench/lifecycle.py
    python bench/run.py conflicts …                                conflicting verbs at once: bench/conflicts.py

Wall times are medians of interleaved turns and least values; CPU is the total of client, servers, shims and containers,
from a cpuacct group around all of them (cgroup v1). Everything is private and under /dev/shm, so that no contender is
measured by its disk.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / "bench"), str(TOP / "tests")]
from api import Api, life  # noqa: E402
from contenders import Contender, Docker, Sampan, leftovers, make, present, pss_of  # noqa: E402
from support.images import busybox_tar  # noqa: E402
from support.sampan import wait_until  # noqa: E402
from turns import Series, interleave  # noqa: E402

OTHERS = ("builds", "conflicts", "crowd", "images", "lifecycle", "networks", "oci", "soak")
LOGGED_LINES = 100_000


def main() -> int:
    # pip does this when it installs; in a working tree, under PYTHONDONTWRITEBYTECODE, each start would compile anew.
    compileall.compile_dir(TOP / "src", quiet=1)
    if sys.argv[1:2] and sys.argv[1] in OTHERS:
        return int(importlib.import_module(sys.argv[1]).main(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quick", nargs="?", choices=["quick"], help="few turns, ten containers instead of fifty")
    parser.add_argument("--only", default="", help="contenders, with commas")
    parser.add_argument("--json", type=Path, default=TOP / "bench" / "results.json")
    options = parser.parse_args()
    turns, many = (5, 10) if options.quick else (25, 50)
    names = [name for name in present() if not options.only or name in options.only.split(",")]
    results: dict[str, Any] = {"machine": machine(), "turns": turns, "containers": many}
    with ExitStack() as ending:
        base = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="sampan-bench-", dir="/dev/shm")))
        tar = busybox_tar(base / "busybox.tar")
        everyone = {name: ending.enter_context(contender(name, base, tar)) for name in names}
        results["run"] = measured("run --rm … true", turns, {n: c.run for n, c in everyone.items()}, everyone)
        ours, theirs = everyone["sampan"], everyone.get("docker")
        assert isinstance(ours, Sampan)
        results["api"] = against_floor(turns, ours, base, tar)
        for one in everyone.values():
            one.start("c0", "sleep", "100000")
        results["exec"] = measured("exec … true", turns, {n: c.execute for n, c in everyone.items()}, everyone)
        pair = {c.name: c for c in (ours, theirs) if isinstance(c, (Sampan, Docker))}
        results["memory"] = {name: memory(one, many, base) for name, one in pair.items()}
        results["ps"] = measured(f"ps, {many} running", turns, {n: c.ps for n, c in pair.items()}, everyone)
    if left := leftovers():
        sys.stderr.write(f"left behind: {left}\n")
        return 1
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


@contextmanager
def contender(name: str, base: Path, tar: Path) -> Iterator[Contender]:
    one = make(name, base, tar)
    try:
        yield one
    finally:
        one.end()


def measured(
    title: str, turns: int, work: dict[str, Callable[[], float]], everyone: dict[str, Contender]
) -> dict[str, dict[str, float]]:
    """Measure, print a table with the ratio to sampan, and return it."""
    found = interleave(turns, {name: (do, everyone[name].groups) for name, do in work.items()})
    table(title, found)
    return {name: series._asdict() for name, series in found.items()}


def table(title: str, found: dict[str, Series]) -> None:
    print(f"\n{title:<24}{'median ms':>10}{'least ms':>10}{'CPU ms':>10}{'ratio':>8}")
    for name, series in found.items():
        ratio = series.wall_ms / next(iter(found.values())).wall_ms
        print(
            f"  {name:<22}{series.wall_ms:>10.1f}{series.least_ms:>10.1f}{series.cpu_ms:>10.1f}{ratio:>8.2f}",
            flush=True,
        )


def against_floor(turns: int, ours: Sampan, base: Path, tar: Path) -> dict[str, dict[str, float]]:
    """Compare a whole life through the API of a warm server with the bare kernel calls from C."""
    lower, work = base / "lower", base / "floor"
    lower.mkdir()
    work.mkdir()
    subprocess.run(["tar", "-xf", tar, "-C", lower], check=True)
    command = [str(TOP / "bench/floor"), "1", str(lower), str(work), "/bin/true"]
    connection = Api(ours.instance.socket)

    def floor() -> float:
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    for _ in range(3):
        life(connection)
    found = interleave(turns * 2, {"sampan": (lambda: life(connection), ours.groups), "C": (floor, ())})
    print(f"\n{'create+start+wait+rm':<24}{'median ms':>10}{'least ms':>10}{'CPU ms':>10}{'/ floor':>8}")
    for name, series in found.items():
        ratio = series.wall_ms / found["C"].wall_ms
        cpu = f"{series.cpu_ms:>10.1f}" if series.cpu_ms else " " * 10
        print(f"  {name:<22}{series.wall_ms:>10.1f}{series.least_ms:>10.1f}{cpu}{ratio:>8.2f}", flush=True)
    return {name: series._asdict() for name, series in found.items()}


def memory(one: Sampan | Docker, many: int, base: Path) -> dict[str, float]:
    """PSS a container with `many` running, idle and after each has logged many lines, in MiB."""
    # Each waits for the file `go` before it logs: idle is measured first, and no exec costs memory of its own.
    signs = base / f"signs-{one.name}"
    signs.mkdir()
    script = f"while [ ! -e /s/go ]; do sleep 1; done; seq 1 {LOGGED_LINES}; touch /s/$HOSTNAME; exec sleep 100000"
    for number in range(1, many):
        one.start(f"c{number}", "sh", "-c", script, flags=["-v", f"{signs}:/s"])
    time.sleep(2)
    found = {"idle": pss_of(one.shims()) / many, **servers(one)}
    (signs / "go").touch()
    wait_until(lambda: len(list(signs.iterdir())) == many, timeout=300, what="all have logged")
    time.sleep(2)
    found["after logging"] = pss_of(one.shims()) / many
    found |= {f"{name} after logging": value for name, value in servers(one).items()}
    print(f"\nPSS of {one.name}, {many} containers (MiB)")
    for name, value in found.items():
        print(f"  {name:<40}{value:>8.2f}", flush=True)
    return found


def servers(one: Sampan | Docker) -> dict[str, float]:
    if isinstance(one, Sampan):
        return {"server": pss_of([one.server]), "keeper": pss_of([one.keeper])}
    pids = [pid for pid in one.daemons() if pid not in one.shims()]
    return {"dockerd and containerd": pss_of(pids)}


def machine() -> dict[str, Any]:
    return {"kernel": os.uname().release, "cpus": os.cpu_count(), "python": sys.version.split()[0]}


if __name__ == "__main__":
    sys.exit(main())
