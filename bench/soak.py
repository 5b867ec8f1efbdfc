"""Many lives of containers, one after another: what an instance holds of the machine must not grow with them.

    python bench/run.py soak [--lives N] [--at-once N] [--json FILE]

Each life is that of tests/support/lives.py: clients that leave early, execs, a pause, an update, two runs, a health
check, a volume, a published port, and a start that fails. The curve is printed as it grows. What is counted must be at
the end what it was at the beginning; memory may settle in the first half and must not rise by more than
KIB_A_LIFE in the second.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from instance import stocked
from support.footprint import footprint, leaked
from support.lives import at_once, live
from support.sampan import Sampan, wait_until

KIB_A_LIFE = 3.0
"""Of some forty requests and ten processes. One to two are lost to holes in the heap, where no object is left."""
COLUMNS = (
    "server fds", "server threads", "server KiB", "keeper fds", "keeper KiB", "processes", "mounts", "cgroups", "links",
    "entries", "rows of containers",
)  # fmt: skip


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(words)
    with stocked() as sampan:
        curve = soak(sampan, options.lives, options.at_once)
    if options.json:
        options.json.write_text(json.dumps(curve, indent=1) + "\n")
    faults = judge(curve)
    print("\n".join(faults) or "nothing has leaked", flush=True)
    return bool(faults)


def soak(sampan: Sampan, lives: int, many: int) -> list[dict[str, float]]:
    """Let them live; return the footprint at each twentieth of them, by the number of lives."""
    begin = time.monotonic()
    print(f"{'lives':>6}{'s':>6}" + "".join(f"{name:>{len(name) + 2}}" for name in COLUMNS), flush=True)
    curve: list[dict[str, float]] = []
    step, done = max(1, lives // 20), 0
    while done <= lives:
        wait_until(lambda: not sampan.leftovers(), timeout=20, fail=False)
        found = footprint(sampan)
        curve.append({"lives": done, **found})
        row = "".join(f"{found[name]:>{len(name) + 2}}" for name in COLUMNS)
        print(f"{done:>6}{time.monotonic() - begin:>6.0f}{row}", flush=True)
        if done < lives:
            at_once(many, step, lambda number, done=done: live(sampan, f"life-{done + number}"))
        done += step
    return curve


def judge(curve: list[dict[str, float]]) -> list[str]:
    """Return what has leaked, a line each: against the second moment, since the first has no container behind it."""
    first, half, last = curve[1], curve[len(curve) // 2], curve[-1]
    faults = [f"LEAK: {name}: {was:g}, now {now:g}" for name, (was, now) in leaked(first, last).items()]
    for name in ("server KiB", "keeper KiB"):
        rise = (last[name] - half[name]) / max(1, last["lives"] - half["lives"])
        print(f"{name}: {rise:+.2f} a life in the second half")
        if rise > KIB_A_LIFE:
            faults.append(f"LEAK: {name}: {rise:.2f} a life")
    return faults


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
