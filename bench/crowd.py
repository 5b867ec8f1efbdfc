"""Two hundred containers on one machine: started some at a time, listed, measured, executed in, stopped, removed.

    python bench/run.py crowd [--containers N] [--at-once N] [--json FILE]

Each is on the default network, publishes a port, has a health check and logs. Prints how long each verb took, for one
and for all, and what the processes need; fails where a verb does, or where anything is left.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from contenders import children
from instance import stocked
from support.footprint import footprint, leaked
from support.lives import at_once
from support.sampan import Sampan, wait_until
from turns import pss_kib

SERVES = "trap 'exit 0' TERM; echo begun; while :; do sleep 1000 & wait $!; done"
FLAGS = ("--publish", "80", "--health-cmd", "true", "--health-interval", "30s", "--memory", "64m")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--containers", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(words)
    with stocked() as sampan:
        sampan("run", "--rm", "busybox", "true")
        found = Crowd(sampan, options.containers, options.at_once).go()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


class Crowd:
    def __init__(self, sampan: Sampan, count: int, many: int) -> None:
        self.sampan, self.count, self.many = sampan, count, many
        self.found: dict[str, float] = {}
        self.names = [f"c{number}" for number in range(count)]

    def go(self) -> dict[str, float]:
        assert not self.sampan.leftovers()
        before = footprint(self.sampan)
        self.each("run -d", self.run)
        self.memory()
        self.once("ps", self.ps)
        self.once("stats --no-stream", self.stats)
        self.once("inspect of all", self.inspect)
        self.each("exec", lambda name: self.says("in\n", "exec", name, "echo", "in"))
        self.each("logs", lambda name: self.says("begun\n", "logs", name))
        self.each("stop", lambda name: self.sampan("stop", name, timeout=120))
        self.once("ps -a", lambda: self.sampan("ps", "-aq"))
        self.each("start", lambda name: self.sampan("start", name, timeout=120))
        self.once("stop of all in one command", lambda: self.sampan("stop", *self.names, timeout=300))
        self.once("rm of all in one command", lambda: self.sampan("rm", *self.names, timeout=300))
        wait_until(lambda: not self.sampan.leftovers(), timeout=60, fail=False)
        left = self.sampan.leftovers()
        assert not left, left[:20]
        assert not leaked(before, footprint(self.sampan)), leaked(before, footprint(self.sampan))
        assert "Traceback" not in self.sampan.log()
        return self.found

    def once(self, what: str, work: Callable[[], object]) -> None:
        begin = time.monotonic()
        work()
        self.tell(f"{what}, s", time.monotonic() - begin)

    def each(self, what: str, work: Callable[[str], object]) -> None:
        """All of them, some at a time."""
        took: list[float] = []

        def one(number: int) -> None:
            begin = time.monotonic()
            work(self.names[number])
            took.append((time.monotonic() - begin) * 1000)

        begin = time.monotonic()
        at_once(self.many, self.count, one)
        self.tell(f"{what}, s", time.monotonic() - begin)
        self.tell(f"{what}, median ms of one", statistics.median(took))
        self.tell(f"{what}, longest ms of one", max(took))

    def tell(self, what: str, value: float) -> None:
        self.found[what] = value
        print(f"{what:<40}{value:>10.2f}", flush=True)

    def run(self, name: str) -> None:
        self.sampan("run", "-d", "--name", name, *FLAGS, "busybox", "sh", "-c", SERVES, timeout=120)

    def says(self, expected: str, *words: str) -> None:
        assert self.sampan(*words, timeout=120).out == expected, words

    def ps(self) -> None:
        lines = self.sampan("ps", "--format", "{{.Names}} {{.State}}").lines
        assert sorted(lines) == sorted(f"{name} running" for name in self.names), lines

    def stats(self) -> None:
        rows = [json.loads(line) for line in self.sampan("stats", "--no-stream", "--format", "json", timeout=120).lines]
        assert {row["Name"] for row in rows} == set(self.names)
        assert all(row["PIDs"] == "2" for row in rows), [row for row in rows if row["PIDs"] != "2"]

    def inspect(self) -> None:
        found = json.loads(self.sampan("inspect", *self.names, timeout=120).out)
        assert [one["Name"] for one in found] == [f"/{name}" for name in self.names]
        assert len({one["NetworkSettings"]["IPAddress"] for one in found}) == self.count
        assert len({one["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] for one in found}) == self.count

    def memory(self) -> None:
        server, keeper = self.sampan.info("ServerPid"), self.sampan.info("KeeperPid")
        shims = [pid for pid in children(keeper) if pid != server]
        for what, pids in (("the server", [server]), ("the keeper", [keeper]), ("all shims", shims)):
            self.tell(f"PSS of {what}, MiB", sum(map(pss_kib, pids)) / 1024)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
