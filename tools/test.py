"""Run the steps of `make test` or `make check`, all of them also after a failure, and sum them up in the last lines.

A build server keeps only the end of what it is told, and what passes there may fail once in a hundred runs: so each
failed test is named again at the very end, with its step and the first line of its error.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

TOP = Path(__file__).resolve().parent.parent
BIN = TOP / ".venv" / "bin"
OTHERS = sorted(TOP.glob(".venv/also-*"))


class Step(NamedTuple):
    """One command, with what it may take at most (seconds)."""

    name: str
    command: tuple[str, ...]
    limit: float = 300


class Outcome(NamedTuple):
    """What came of a step: pytest's counts by word, {} where it wasn't pytest; a line for each failure, () if none."""

    name: str
    seconds: float
    counts: dict[str, int]
    failures: tuple[str, ...]


def pytest(name: str, *args: str, python: Path = BIN / "python", limit: float = 600) -> Step:
    return Step(name, (str(python), "-m", "pytest", "-q", *args), limit)


CHECK = (
    Step("lint", (str(BIN / "ruff"), "check")),
    Step("format", (str(BIN / "ruff"), "format", "--check")),
    Step("types", (str(BIN / "mypy"),)),
    Step("import contracts", (str(BIN / "lint-imports"), "--no-cache")),
    pytest("unit", "tests/unit"),
)
BESIDE = (
    *(
        pytest(f"unit on {other.name[5:]}", "tests/unit", "-p", "no:cacheprovider", python=other / "bin/python")
        for other in OTHERS
    ),
    pytest("kernel", "tests/kernel", "-p", "no:cacheprovider", limit=1200),
)
"""What runs beside the e2e tests: each lane leaves most of a second processor idle."""
E2E = pytest("e2e", "tests/e2e", limit=1500)
VM = Step("cgroup v2 in a VM", (str(BIN / "python"), "tools/cgroup2/run.py"), limit=1200)

_TOTALS = re.compile(r"[= ]*\d+ \w+.* in \d+\.\d+s")
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|warnings?)")
_FAILURE = re.compile(r"(?:FAILED|ERROR) tests/")
_LONGEST = 400


def perform(step: Step, out: TextIO = sys.stdout) -> Outcome:
    """Run one step with its output passed on, killed with all its children when it exceeds its limit."""
    print(f"\n=== {step.name}: {' '.join(step.command).replace(str(TOP) + '/', '')}", file=out, flush=True)
    started = time.monotonic()
    last = totals = ""
    failures: list[str] = []
    with subprocess.Popen(
        ["timeout", "--signal=KILL", str(step.limit), *step.command],
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            out.write(line)
            out.flush()
            last = line.strip() or last
            if _TOTALS.match(line):
                totals = line
            elif _FAILURE.match(line):
                failures.append(line.strip()[:_LONGEST])
        code = process.wait()
    seconds = time.monotonic() - started
    if code and not failures:
        ended = f"over {step.limit} s, killed" if seconds >= step.limit else f"exit code {code}"
        failures.append(f"{ended}; its last line: {last[:_LONGEST]}")
    counts = {word.rstrip("s") if word.startswith("error") else word: int(n) for n, word in _COUNT.findall(totals)}
    return Outcome(step.name, seconds, counts, tuple(failures) if code else ())


def perform_all() -> list[Outcome]:
    """Run everything: what is quick, then two lanes side by side, then the machine, which is emulated, by itself."""
    outcomes = [perform(step) for step in CHECK]
    with tempfile.TemporaryFile("w+") as said:
        beside: list[Outcome] = []
        lane = threading.Thread(target=lambda: beside.extend(perform(step, said) for step in BESIDE))
        lane.start()
        last = perform(E2E)
        lane.join()
        said.seek(0)
        sys.stdout.writelines(said)
    return [*outcomes, *beside, last, perform(VM)]


def main() -> int:
    found = ", ".join(other.name[5:] for other in OTHERS) or "none"
    print(f"Python {sys.version.split()[0]}; also found for the unit tests: {found}")
    started = time.monotonic()
    outcomes = perform_all() if sys.argv[1] == "all" else [perform(step) for step in CHECK]

    for line in summary(outcomes, time.monotonic() - started):
        print(line)
    return 1 if any(outcome.failures for outcome in outcomes) else 0


def summary(outcomes: Iterable[Outcome], seconds: float) -> Iterator[str]:
    """Yield the last lines: a table of the steps, the name of whatever failed in each, and one line for all."""
    outcomes = tuple(outcomes)
    yield ""
    total: dict[str, int] = {}
    for outcome in outcomes:
        counted = ", ".join(f"{n} {word}" for word, n in outcome.counts.items())
        yield f"{'FAIL' if outcome.failures else 'ok  '} {outcome.name:<20} {outcome.seconds:6.1f} s  {counted}"
        for word, n in outcome.counts.items():
            total[word] = total.get(word, 0) + n
    failed = [outcome for outcome in outcomes if outcome.failures]
    for outcome in failed:
        yield from (f"{outcome.name}: {failure}" for failure in outcome.failures)
    tests = ", ".join(f"{n} {word}" for word, n in total.items())
    verdict = f"failed: {', '.join(outcome.name for outcome in failed)}; {tests}" if failed else tests
    yield f"==================== {verdict} in {seconds:.2f}s ===================="


if __name__ == "__main__":
    sys.exit(main())
