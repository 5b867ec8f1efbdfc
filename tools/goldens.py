"""Record again what the real docker prints: the transcripts of tests/goldens/docker, and its client's cli.json."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests"))
from support.images import busybox_tar  # noqa: E402
from support.peers import Docker  # noqa: E402
from support.transcript import GOLDENS, read, replay, stocked, title  # noqa: E402


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sampan-goldens-") as directory:
        docker = Docker(Path(directory) / "d", "sampan-goldens")
        registry = docker.registry(Path(directory) / "registry")
        try:
            tar = busybox_tar(Path(directory) / "busybox.tar")
            names = stocked(registry, Path(directory), tar)
            for path in sorted(GOLDENS.glob("*.txt")):
                docker("import", tar, "busybox", check=True)
                record(docker, path, names)
                print(f"{path.relative_to(TOP)}: {len(read(path))} commands", flush=True)
        finally:
            registry.end()
            docker.end()
    subprocess.run([sys.executable, TOP / "tools/record_cli.py"], check=True)


def record(docker: Docker, path: Path, names: dict[str, str]) -> None:
    """Perform one transcript's commands, write what came of them, and remove what they left."""
    text = title(path)
    for entry in replay(read(path), docker, names):
        text += f"{entry.mark} {entry.line}\n{entry.outcome}"
    path.write_text(text)
    docker.remove_everything()


if __name__ == "__main__":
    main()
