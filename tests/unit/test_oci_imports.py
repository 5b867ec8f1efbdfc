"""What `sampan-runtime` imports: each command is a new interpreter, and a module too many costs it its milliseconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "argparse", "ast", "collections", "contextlib", "ctypes", "dataclasses", "enum", "functools", "inspect", "json",
    "msgspec", "re", "selectors", "shutil", "signal", "socket", "subprocess", "tempfile", "traceback", "typing",
}  # fmt: skip

LIGHT = """
import sys
from sampan.oci.main import perform
before = set(sys.modules)
perform(sys.argv[1:])
print("IMPORTED", *sorted(set(sys.modules) - before))
"""

# By the file that a module is of: a stand-in has the name of what it stands for.
MAKING = """
import sys
from sampan.oci import lean
lean.install()
from sampan.oci.commands import {command}
print("IMPORTED", *sorted(
    name for name, module in sys.modules.items()
    if name.startswith("sampan.") or "lib/python3" in (getattr(module, "__file__", None) or "")
))
"""


def imported(program: str, *words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("IMPORTED ")[2].split())


@pytest.mark.parametrize("words", [("state", "c1"), ("start", "c1"), ("kill", "c1", "KILL"), ("delete", "-f", "c1")])
def test_a_command_that_makes_no_process_imports_next_to_nothing(tmp_path, words):
    modules = imported(LIGHT, "--root", str(tmp_path), *words)

    assert "sampan.oci.store" in modules
    assert not modules & HEAVY


@pytest.mark.parametrize("command", ["create", "run", "exec"])
def test_a_command_that_makes_a_process_imports_none_of_what_is_stood_in_for(command):
    modules = imported(MAKING.format(command=command))

    assert "sampan.runtime.container" in modules
    assert not modules & (HEAVY - {"ctypes"})
