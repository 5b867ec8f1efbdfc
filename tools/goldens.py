"""Record again what the real docker prints and builds: tests/goldens/docker, cli.json, builds.json."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests"))
from support.images import busybox_tar  # noqa: E402
from support.peers import Docker  # noqa: E402
from support.transcript import BRIDGED, GOLDENS, read, replay, stocked, title  # noqa: E402


def main() -> None:
    for bridged in (False, True):
        with tempfile.TemporaryDirectory(prefix="sampan-goldens-") as directory:
            record_all(Path(directory), bridged=bridged)
    for name in ("record_cli.py", "record_builds.py"):
        subprocess.run([sys.executable, TOP / "tools" / name], check=True)


def record_all(directory: Path, *, bridged: bool) -> None:
    """Record the transcripts that need a dockerd that makes networks, or those that don't."""
    docker = Docker(directory / "d", "sampan-goldens", bridged=bridged)
    registry = docker.registry(directory / "registry")
    try:
        tar = busybox_tar(directory / "busybox.tar")
        names = stocked(registry, directory, tar)
        for path in sorted(GOLDENS.glob("*.txt")):
            if (path.stem in BRIDGED) == bridged:
                docker("import", tar, "busybox", check=True)
                record(docker, path, names)
                print(f"{path.relative_to(TOP)}: {len(read(path))} commands", flush=True)
    finally:
        registry.end()
        docker.end()


def record(docker: Docker, path: Path, names: dict[str, str]) -> None:
    """Perform one transcript's commands, write what came of them, and remove what they left."""
    text = title(path)
    for entry in replay(read(path), docker, names):
        text += f"{entry.mark} {entry.line}\n{entry.outcome}"
    path.write_text(text)
    docker.remove_everything()


if __name__ == "__main__":
    main()
