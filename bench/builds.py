"""Build images with sampan, docker's classic builder and buildah, in turns, and print what each needed.

    python bench/run.py builds [quick] [--only NAME,...] [--work NAME,...] [--on ext4|tmpfs] [--json FILE]

All are in one network namespace with nothing but loopback, and on one filesystem in memory. Steps have no network, so
that nobody's bridge is measured (bench/networks.py does).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from contenders import Contender, Docker, Podman, Sampan, leftovers
from images import filesystem, in_own_network
from support.images import busybox_tar
from support.peers import Docker as Dockerd
from support.sampan import PROGRAM
from turns import Series, interleave

MANY_FILES = 20_000
STAGES = 4
TWELVE = """\
FROM busybox
ENV NAME=World
WORKDIR /app
RUN echo one > one
COPY requirements.txt .
RUN mkdir -p lib && cp requirements.txt lib/
RUN touch lib/a lib/b
RUN ls -l lib > listing
RUN rm lib/b && chmod 700 lib
COPY src src
EXPOSE 80
CMD ["sh", "-c", "echo $NAME"]
"""
MANY = "FROM busybox\nCOPY many /many\n"
SIDE_BY_SIDE = "".join(
    f"FROM busybox AS s{number}\nRUN seq 1 400000 | sha256sum > /{number}\nRUN seq 1 400000 | sha256sum >> /{number}\n"
    for number in range(STAGES)
) + "FROM busybox\n" + "".join(f"COPY --from=s{number} /{number} /\n" for number in range(STAGES))  # fmt: skip


class Builder:
    """What each contender is asked: to build a directory, with or without its cache."""

    def __init__(self, contender: Contender, command: Sequence[str], forget: Sequence[Sequence[str]]) -> None:
        self.contender, self.groups = contender, contender.groups
        self._command, self._forget = command, forget

    def __call__(self, directory: Path, *flags: str) -> float:
        """Build; wall milliseconds."""
        return self.contender.runner(*self._command, "-t", "built", "--network", "none", *flags, directory).wall_ms

    def forget(self) -> None:
        """Remove what was built, with its cache."""
        for command in self._forget:
            self.contender.runner(*command)


@contextmanager
def building(name: str, base: Path, tar: Path) -> Iterator[Builder]:
    """Set one up under `base`."""
    one: Contender
    match name:
        case "sampan":
            one = Sampan(base, tar)
            forget = [[PROGRAM, "rmi", "-f", "built"], [PROGRAM, "builder", "prune", "-af"]]
            builder = Builder(one, [PROGRAM, "build", "--progress", "plain"], forget)
        case "docker":
            one = Docker(base, tar, daemon=Dockerd(base / "d", "sampan-bench-docker", own_network=False))
            builder = Builder(one, ["env", "DOCKER_BUILDKIT=0", "docker", "build"], [["docker", "rmi", "-f", "built"]])
        case "buildah":
            one = Podman(base, tar)
            builder = Builder(
                one, ["buildah", "--runtime", "runc", "build", "--layers"], [["buildah", "rmi", "-f", "built"]]
            )
        case _:
            raise SystemExit(f"no such contender: {name}")
    try:
        yield builder
    finally:
        one.end()


# ------------------------------------------------------------------------------------------------------------- inputs


def contexts(directory: Path) -> dict[str, Path]:
    """Make the contexts: by the kind of work, a directory with its Dockerfile."""
    made = {"twelve": TWELVE, "many": MANY, "stages": SIDE_BY_SIDE}
    for name, text in made.items():
        (directory / name / "src").mkdir(parents=True)
        (directory / name / "Dockerfile").write_text(text)
    (directory / "twelve/requirements.txt").write_text("flask\n")
    for number in range(20):
        (directory / f"twelve/src/{number}.py").write_text(f"# {number}\n" * 100)
    for number in range(MANY_FILES):
        path = directory / f"many/many/{number // 100}/{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {number}\n" * (number % 200))
    return {name: directory / name for name in made}


# --------------------------------------------------------------------------------------------------------------- work


class Bench:
    """One run: the contexts and the contenders."""

    def __init__(self, turns: int, made: dict[str, Path], builders: dict[str, Builder]) -> None:
        self.turns, self.made, self.builders = turns, made, builders
        self._numbers = itertools.count()

    def cold(self) -> dict[str, Any]:
        return self._measured("12 steps, nothing cached", lambda one: one(self.made["twelve"], "--no-cache"))

    def cached(self) -> dict[str, Any]:
        self._all(lambda one: one(self.made["twelve"]))
        return self._measured("12 steps, all cached", lambda one: one(self.made["twelve"]))

    def changed(self) -> dict[str, Any]:
        """A file of the last COPY is another in each turn."""
        self._all(lambda one: one(self.made["twelve"]))

        def work(one: Builder) -> float:
            (self.made["twelve"] / "src/0.py").write_text(f"# changed {next(self._numbers)}\n")
            return one(self.made["twelve"])

        return self._measured("12 steps, a file of the last COPY changed", work)

    def many(self) -> dict[str, Any]:
        def work(one: Builder) -> float:
            wall = one(self.made["many"], "--no-cache")
            one.forget()
            return wall

        return self._measured(f"COPY of {MANY_FILES:,} files", work)

    def again(self) -> dict[str, Any]:
        self._all(lambda one: one(self.made["many"]))
        found = self._measured(f"COPY of {MANY_FILES:,} files, cached", lambda one: one(self.made["many"]))
        self._all(Builder.forget)
        return found

    def stages(self) -> dict[str, Any]:
        return self._measured(f"{STAGES} independent stages", lambda one: one(self.made["stages"], "--no-cache"))

    def _all(self, work: Callable[[Builder], object]) -> None:
        for one in self.builders.values():
            work(one)

    def _measured(self, title: str, work: Callable[[Builder], float]) -> dict[str, Any]:
        turns = {name: (lambda one=one: work(one), one.groups) for name, one in self.builders.items()}
        return table(title, interleave(self.turns, turns))


WORK = ("cold", "cached", "changed", "many", "again", "stages")


def table(title: str, found: dict[str, Series]) -> dict[str, Any]:
    """Print it with the ratio to the first, and return it."""
    print(f"\n{title:<44}{'median ms':>10}{'least ms':>10}{'CPU ms':>10}{'ratio':>8}")
    first = next(iter(found.values()))
    for name, one in found.items():
        ratio = one.wall_ms / first.wall_ms
        print(f"  {name:<42}{one.wall_ms:>10.0f}{one.least_ms:>10.0f}{one.cpu_ms:>10.0f}{ratio:>8.2f}", flush=True)
    return {name: one._asdict() for name, one in found.items()}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quick", nargs="?", choices=["quick"], help="few turns")
    parser.add_argument("--only", default="sampan,docker,buildah", help="contenders, with commas")
    parser.add_argument("--work", default=",".join(WORK), help="kinds of work in their order, with commas")
    parser.add_argument("--on", default="tmpfs", choices=["ext4", "tmpfs"], help="the filesystem")
    parser.add_argument("--turns", type=int)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("results-builds.json"))
    options = parser.parse_args(arguments)
    in_own_network()
    turns = options.turns or (3 if options.quick else 7)
    results: dict[str, Any] = {"kernel": os.uname().release, "cpus": os.cpu_count(), "turns": turns, "on": options.on}
    with ExitStack() as ending:
        scratch = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="sampan-bench-in-", dir="/dev/shm")))
        base = ending.enter_context(filesystem(options.on))
        made = contexts(scratch)
        tar = busybox_tar(base / "busybox.tar")
        builders = {name: ending.enter_context(building(name, base, tar)) for name in options.only.split(",")}
        bench = Bench(turns, made, builders)
        for kind in options.work.split(","):
            results[kind] = getattr(bench, kind)()
    if left := leftovers():
        sys.stderr.write(f"left behind: {left}\n")
        return 1
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0
