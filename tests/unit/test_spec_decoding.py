"""Types that msgspec sees for the first time, in several threads at once."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sampan

THREADED = ("api", "build", "engine", "image", "network", "registry", "rootfs", "spec")
ROOT = Path(sampan.__file__).parent
GUARDED = (ROOT / "spec/decoding.py", ROOT / "spec/runtime.py")
"""The one way, and a module that has its type looked at when it is imported."""

TRIES = 3

AT_ONCE = """
import sys, threading
from sampan.spec.docker import ContainerCreate, decode
sys.setswitchinterval(1e-6)
body = b'{"Image": "busybox", "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": ""}]}, "Memory": 1}}'
together = threading.Barrier(8)
def read():
    together.wait()
    decode(ContainerCreate, body)
threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize("number", range(TRIES))
def test_threads_that_read_a_new_type_at_once_do_not_end_the_process(number: int) -> None:
    done = subprocess.run([sys.executable, "-c", AT_ONCE], check=False, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")


def test_what_runs_in_threads_reads_types_by_the_one_way_that_may() -> None:
    files = (path for package in THREADED for path in (ROOT / package).rglob("*.py"))

    assert [call for path in files if path not in GUARDED for call in unguarded(path)] == []


def unguarded(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            typed = name in ("msgspec.json.decode", "msgspec.msgpack.decode") and any(
                keyword.arg == "type" for keyword in node.keywords
            )
            if typed or name == "msgspec.convert":
                yield f"{path}:{node.lineno}: {name}"
