"""Many containers of sampan, docker and podman, in turns: starts, stops, exec, logs, lists.

    python bench/run.py lifecycle [quick] [--only NAME,...] [--work NAME,...] [--json FILE]

Each piece of work is one command line, started and timed by the contender's own process; containers are on no network.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from contenders import Contender, leftovers, make
from images import in_own_network
from support.images import busybox_tar
from turns import Series, cpu_ms

WORK = ("starts", "logs", "lists")
AT_ONCE = 8
RUNNING = 50  # of those that are started and stopped, and of which statistics are asked
LISTED = 200
LINES = 1_000_000
LOGGED = ["--log-opt", "max-size=1g"]  # nothing of so many lines is rotated away
IDLE = ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"]  # the first signal stops it

Found = dict[str, dict[str, Series]]  # by work, by contender


class Many:
    """What one contender is asked for; each method returns wall milliseconds."""

    def __init__(self, contender: Contender, lines: int) -> None:
        self.contender, self.name, self.groups = contender, contender.name, contender.groups
        self._lines = lines
        self.names = [f"m{number}" for number in range(RUNNING)]

    def __call__(self, *words: str) -> float:
        """Run the client."""
        return self.contender.runner(self.contender.program, *words).wall_ms

    def shell(self, script: str) -> float:
        return self.contender.runner("sh", "-ec", script).wall_ms

    def start_in_sequence(self) -> float:
        return self.shell("\n".join(shlex.join(self.contender.start_command(name, *IDLE)) for name in self.names))

    def start_at_once(self, names: Sequence[str] = ()) -> float:
        command = shlex.join(self.contender.start_command("NAME", *IDLE))
        names = shlex.join(names or self.names)
        return self.shell(f"printf '%s\\n' {names} | xargs -P {AT_ONCE} -I NAME {command}")

    def stop_and_remove(self) -> float:
        program, names = self.contender.program, shlex.join(self.names)
        return self.shell(f"{program} stop {names}; {program} rm {names}")

    def log(self) -> None:
        """Have a container log all lines, and end."""
        self.contender.start("logged", "seq", str(self._lines), flags=LOGGED)
        self("wait", "logged")

    def logs(self) -> float:
        return self.shell(f"{self.contender.program} logs logged | tail -n 1 | grep -qx {self._lines}")

    def follow(self) -> float:
        """Follow a container from its start to its end."""
        start = shlex.join(self.contender.start_command("followed", "seq", str(self._lines), flags=LOGGED))
        # podman 4.3 stops following when the container ends, whatever it has not read by then.
        last = "[0-9]" if self.name == "podman" else str(self._lines)
        wall = self.shell(f"{start}; {self.contender.program} logs -f followed | tail -n 1 | grep -q '^{last}'")
        self("rm", "-f", "followed")
        return wall


def starts(everyone: Sequence[Many], turns: int) -> Found:
    """Start, stop and remove, again and again; exec in between."""
    return interleave_steps(max(2, turns // 3), everyone, {
        f"{RUNNING} started in sequence": Many.start_in_sequence,
        "exec … true": lambda one: one("exec", "m0", "true"),
        f"{RUNNING} stopped and removed": Many.stop_and_remove,
        f"{RUNNING} started, {AT_ONCE} at a time": Many.start_at_once,
        f"{RUNNING} stopped and removed again": Many.stop_and_remove,
    })  # fmt: skip


def logs(everyone: Sequence[Many], turns: int) -> Found:
    for one in everyone:
        one.log()
    found = interleave_steps(max(2, turns // 2), everyone, {"logs": Many.logs, "run and logs -f": Many.follow})
    for one in everyone:
        one("rm", "logged")
    return found


def lists(everyone: Sequence[Many], turns: int, listed: int) -> Found:
    names = [f"m{number}" for number in range(listed)]
    for one in everyone:
        one.start_at_once(names)
    found = interleave_steps(turns, everyone, {
        f"ps, {listed} running": lambda one: one("ps"),
        f"inspect of one of {listed}": lambda one: one("inspect", "m7"),
        f"inspect of {listed}": lambda one: one("inspect", *names),
        f"stats --no-stream of {RUNNING}": lambda one: one("stats", "--no-stream", *one.names),
    })  # fmt: skip
    for one in everyone:
        one("rm", "-f", *names)
    return found


def interleave_steps(turns: int, everyone: Sequence[Many], steps: dict[str, Callable[[Many], float]]) -> Found:
    """Let each take its turn with each step, in order."""
    walls: dict[tuple[str, str], list[float]] = {}
    cpu: dict[tuple[str, str], list[float]] = {}
    for _ in range(turns):
        for title, work in steps.items():
            for one in everyone:
                before = cpu_ms(one.groups)
                walls.setdefault((title, one.name), []).append(work(one))
                time.sleep(0.05)
                cpu.setdefault((title, one.name), []).append(cpu_ms(one.groups) - before)
    found: Found = {}
    for (title, name), values in walls.items():
        series = Series(statistics.median(values), min(values), statistics.median(cpu[title, name]))
        found.setdefault(title, {})[name] = series
    for title, rows in found.items():
        table(title, rows)
    return found


def table(title: str, rows: dict[str, Series]) -> None:
    print(f"\n{title:<32}{'median ms':>10}{'least ms':>10}{'CPU ms':>10}{'ratio':>8}{'CPU':>8}")
    base = next(iter(rows.values()))
    for name, series in rows.items():
        ratios = f"{series.wall_ms / base.wall_ms:>8.2f}{series.cpu_ms / base.cpu_ms:>8.2f}"
        print(f"  {name:<30}{series.wall_ms:>10.1f}{series.least_ms:>10.1f}{series.cpu_ms:>10.1f}{ratios}", flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quick", nargs="?", choices=["quick"], help="fewer turns, containers and lines")
    parser.add_argument("--only", default="sampan,docker,podman", help="contenders, with commas")
    parser.add_argument("--work", default=",".join(WORK), help="what to measure, with commas")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results-lifecycle.json")
    options = parser.parse_args(arguments)
    in_own_network()
    turns, listed, lines = (4, 60, LINES // 10) if options.quick else (10, LISTED, LINES)
    found: Found = {}
    with ExitStack() as ending:
        base = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="sampan-bench-", dir="/dev/shm")))
        tar = busybox_tar(base / "busybox.tar")
        everyone = []
        for name in options.only.split(","):
            contender = make(name, base, tar)
            ending.callback(contender.end)
            everyone.append(Many(contender, lines))
        for work in options.work.split(","):
            match work:
                case "starts":
                    found |= starts(everyone, turns)
                case "logs":
                    found |= logs(everyone, turns)
                case "lists":
                    found |= lists(everyone, turns, listed)
                case _:
                    parser.error(f"no such work: {work}")
    if left := leftovers():
        sys.stderr.write(f"left behind: {left}\n")
        return 1
    named = {title: {name: series._asdict() for name, series in rows.items()} for title, rows in found.items()}
    options.json.write_text(json.dumps(named, indent=1) + "\n")
    return 0
