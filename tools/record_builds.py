"""Record what the real builders make of the corpus: tests/goldens/builds.json. Words that titles contain choose cases.

BuildKit's result is what ours is compared with, buildah's where only that knows the rule. What the classic builder
makes otherwise is noted beside it: [what it is with BuildKit, what with the classic builder].
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests"))
from support.builders import Builders  # noqa: E402
from support.built import Image, read_archive  # noqa: E402
from support.corpus import RECORDED, Case, bases, cases, serving  # noqa: E402
from support.sampan import Result  # noqa: E402

NO_NETWORK = ("--network", "none")
VERSIONS = ("dockerd --version", "docker buildx version", "buildah --version")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only cases whose title contains one of these")
    options = parser.parse_args()
    known = json.loads(RECORDED.read_text()) if RECORDED.exists() else {"cases": {}}
    wanted = cases()
    with tempfile.TemporaryDirectory(prefix="sampan-goldens-", dir="/dev/shm") as text, recorder(Path(text)) as record:
        known["recorded with"] = record.versions()
        try:
            for case in wanted:
                if not options.words or any(word in case.id for word in options.words):
                    known["cases"][case.id] = record(case)
                    print(case.id, flush=True)
        finally:
            known["cases"] = {case.id: known["cases"][case.id] for case in wanted if case.id in known["cases"]}
            write(known)
    print(f"{RECORDED.relative_to(TOP)}: {len(known['cases'])} cases")


def write(known: dict[str, Any]) -> None:
    """Write a case a line, so that a change shows where it is."""
    lines = [f"{json.dumps(id)}: {json.dumps(case, ensure_ascii=False)}" for id, case in known["cases"].items()]
    text = ",\n".join(lines)
    RECORDED.write_text(f'{{"recorded with": {json.dumps(known["recorded with"])},\n"cases": {{\n{text}\n}}}}\n')


@contextmanager
def recorder(directory: Path) -> Iterator[Recorder]:
    builders = Builders(directory / "b")
    try:
        with serving(directory / "served", builders.within()):
            yield Recorder(builders)
    finally:
        builders.end()


class Recorder:
    """Builds cases with the real builders and says what they made."""

    def __init__(self, builders: Builders) -> None:
        self._builders = builders
        archive = builders.inside(bases(builders.directory))
        builders("docker", "load", "-i", archive, check=True)
        builders.buildah("pull", [f"docker-archive:{archive}:base:latest"], check=True)
        self._base = self._saved("base")
        self._count = 0

    def versions(self) -> list[str]:
        return [self._builders(*command.split(), check=True).out.strip() for command in VERSIONS]

    def __call__(self, case: Case) -> dict[str, Any]:
        self._count += 1
        directory = self._builders.directory / f"case-{self._count}"
        case.lay(directory)
        where = {"cwd": self._builders.inside(directory), "env": case.environment}
        if case.one("with") == "buildah":
            return {"of": case.digest, **self._buildah(case, where)}
        builder = self._builders.classic if case.one("with") == "classic" else self._builders.buildkit
        done = builder(["-t", "made", *NO_NETWORK, *case.arguments], **where)
        return {"of": case.digest, **self._told(case, done), **self._classic(case, where)}

    def _told(self, case: Case, done: Result) -> dict[str, Any]:
        expected = case.one("fails")
        if done.code:
            error = failure(done)
            if expected is None or expected not in error:
                print(f"  UNEXPECTED {case.id}: {error}")
            return {"error": error}
        if expected is not None:
            print(f"  UNEXPECTED {case.id}: it was built")
        self._last = self._saved("made")
        self._builders("docker", "rmi", "-f", "made", check=True)
        return self._last.told(self._base)

    def _classic(self, case: Case, where: dict[str, Any]) -> dict[str, Any]:
        """Say where the classic builder differs: in an error, in configuration or in files."""
        done = self._builders.classic(["-t", "made", *NO_NETWORK, *case.arguments], **where)
        if done.code:
            return {} if case.one("fails") else {"classic": failure(done)}
        classic = self._saved("made").told(self._base)
        self._builders("docker", "rmi", "-f", "made", check=True)
        if case.one("fails"):
            return {"classic": "is built"}
        ours = self._last.told(self._base)
        found = {
            name: [ours[part].get(name), classic[part].get(name)]
            for part in ("config", "files")
            for name in sorted(ours[part].keys() | classic[part].keys())
            if ours[part].get(name) != classic[part].get(name)
        }
        return {"classic": found} if found else {}

    def _buildah(self, case: Case, where: dict[str, Any]) -> dict[str, Any]:
        words = ["--isolation", "chroot", "--identity-label=false", "-t", "made"]
        done = self._builders.buildah("build", [*words, *case.arguments], **where)
        if done.code:
            return {"error": failure(done)}
        target = self._builders.directory / "saved.tar"
        target.unlink(missing_ok=True)
        self._builders.buildah("push", ["made", f"docker-archive:{self._builders.inside(target)}:made"], check=True)
        with target.open("rb") as file:
            told = read_archive(file).told(self._base)
        return {"config": told["config"], "files": told["files"]}

    def _saved(self, name: str) -> Image:
        target = self._builders.directory / "saved.tar"
        self._builders("docker", "save", "-o", self._builders.inside(target), name, check=True)
        with target.open("rb") as file:
            return read_archive(file)


def failure(done: Result) -> str:
    """Return the error without what is about the builder itself."""
    lines = [line for line in done.err.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if re.match(r"(?i)error|.*failed", line)), lines[-1] if lines else "")
    last = re.sub(r"[a-z0-9]{25}::[a-z0-9]{25}", "REF", last)
    return re.sub(r"^(ERROR: |Error: )?(failed to build: )?(failed to solve: )?", "", last)


if __name__ == "__main__":
    main()
