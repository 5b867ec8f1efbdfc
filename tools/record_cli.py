"""Record what Docker's client asks and prints for many command lines: tests/goldens/cli.json.

    python tools/record_cli.py          needs `docker` (the client only); `make goldens` runs it

Each line of tests/goldens/cli-cases.txt is run against a server that answers with fixed data (tests/support/recorder).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.cli_cases import CASES, environment, normalized, prepare  # noqa: E402
from support.recorder import Recorder  # noqa: E402


def main() -> int:
    """Run every case and write what came of it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name).resolve() / "here"
        directory.mkdir()
        prepare(directory)
        recorder = Recorder(directory / "docker.sock")
        found = {line: _record(recorder, directory, line) for line in CASES}
        recorder.close()
    out = ROOT / "tests/goldens/cli.json"
    out.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    sys.stdout.write(f"{len(found)} cases in {out.relative_to(ROOT)}\n")
    return 0


def _record(recorder: Recorder, directory: Path, line: str) -> dict[str, object]:
    recorder.requests.clear()
    done = subprocess.run(
        ["docker", *shlex.split(line)],
        cwd=directory,
        env={**os.environ, **environment(directory), "DOCKER_HOST": f"unix://{directory}/docker.sock"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return normalized(done.returncode, done.stdout, done.stderr, recorder.requests, directory)


if __name__ == "__main__":
    sys.exit(main())
