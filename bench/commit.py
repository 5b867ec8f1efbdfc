"""Commit a container that has changed 10,000 files: the same by sampan, docker and podman, in turns.

python bench/commit.py [TURNS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / "bench"), str(TOP / "tests")]
from contenders import Contender, make, present  # noqa: E402
from support.images import busybox_tar  # noqa: E402
from support.sampan import PROGRAM  # noqa: E402
from turns import Series, cpu_ms  # noqa: E402

ENGINES = {"sampan": PROGRAM, "docker": "docker", "podman": "podman"}
SCRIPT = """
mkdir /many; cd /many
for i in $(seq 100); do
  mkdir $i
  for j in $(seq 100); do head -c 3000 /bin/busybox > $i/$j; echo $i $j >> $i/$j; done
done
"""


def commits(turns: int, everyone: Mapping[str, Contender]) -> dict[str, Series]:
    """Have each make its container once, then commit it in turns; the image is removed before the next one."""
    for name, one in everyone.items():
        one.runner(ENGINES[name], "run", "--network", "none", "--name", "many", "busybox", "sh", "-c", SCRIPT)
    walls: dict[str, list[float]] = {name: [] for name in everyone}
    cpu: dict[str, list[float]] = {name: [] for name in everyone}
    for number in range(turns + 1):
        for name, one in everyone.items():
            wall, used = _turn(ENGINES[name], one)
            if number:
                walls[name].append(wall)
                cpu[name].append(used)
    return {n: Series(statistics.median(walls[n]), min(walls[n]), statistics.median(cpu[n])) for n in everyone}


def _turn(engine: str, one: Contender) -> tuple[float, float]:
    groups: Sequence[Path] = one.groups
    before = cpu_ms(groups)
    wall = one.runner(engine, "commit", "many", "many:1").wall_ms
    time.sleep(0.05)
    used = cpu_ms(groups) - before
    one.runner(engine, "rmi", "many:1")
    time.sleep(0.5)
    return wall, used


def main() -> int:
    with ExitStack() as ending:
        base = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="sampan-bench-", dir="/dev/shm")))
        tar = busybox_tar(base / "busybox.tar")
        everyone: dict[str, Contender] = {}
        for name in present():
            if name in ENGINES:
                everyone[name] = make(name, base, tar)
                ending.callback(everyone[name].end)
        for name, series in commits(int(sys.argv[1]) if sys.argv[1:] else 5, everyone).items():
            print(f"{name:<10} median {series.wall_ms:8.0f} ms  least {series.least_ms:8.0f}  CPU {series.cpu_ms:8.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
