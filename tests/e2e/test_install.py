"""The README's first command, in a new environment from a fresh copy of the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.network import of_the_host
from support.sampan import Sampan, new_root

TOP = Path(__file__).resolve().parents[2]


def test_pip_install_and_run_hello_with_nothing_pulled_and_no_daemon_set_up(tmp_path: Path) -> None:
    source = tmp_path / "clone"
    source.mkdir()
    for name in ("src", "scripts", "pyproject.toml", "README.md", "LICENSE"):
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (TOP / name).exists():
            shutil.copy(TOP / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    with of_the_host():
        subprocess.run([tmp_path / "venv/bin/pip", "install", "-qq", "."], cwd=source, check=True, timeout=300)
    sampan = Sampan(new_root())
    command = [tmp_path / "venv/bin/sampan", "run", "--rm", "host", "echo", "hello"]
    try:
        said = subprocess.run(command, env=sampan.env, capture_output=True, text=True, timeout=60, check=False)
    finally:
        sampan.end()
    assert (said.returncode, said.stdout) == (0, "hello\n"), said.stderr
    assert not os.path.exists(sampan.root)
