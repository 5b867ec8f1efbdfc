"""What the command line imports at start: a module too many costs every command its milliseconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sampan.cli import body, body_rare
from support.recorder import Recorder

FORBIDDEN = {
    "argparse", "ast", "asyncio", "base64", "collections", "contextlib", "dataclasses", "datetime", "email",
    "enum", "functools", "h11", "http", "importlib.metadata", "inspect", "json", "logging", "msgspec",
    "pathlib", "random", "re", "shutil", "signal", "socket", "ssl", "struct", "subprocess", "tempfile",
    "threading", "traceback", "types", "typing", "urllib", "urllib3", "warnings", "weakref",
}  # fmt: skip

PROGRAM = """
import sys
before = set(sys.modules)
from sampan.cli.main import perform
status = perform(sys.argv[1:])
sys.stderr.write("\\nIMPORTED " + " ".join(sorted(set(sys.modules) - before)))
sys.exit(status)
"""


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    server = Recorder(tmp_path_factory.mktemp("imports") / "docker.sock")
    yield server
    server.close()


def imported(recorder, *words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "-H", f"unix://{recorder.server.server_address}", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return set(done.stderr.rpartition("IMPORTED ")[2].split())


@pytest.mark.parametrize(
    "words",
    [
        ("run", "-d", "image", "true"),
        ("run", "-d", "-it", "-m", "1g", "-v", "/a:/b", "-e", "A=b", "--network", "none", "image"),
        ("create", "image"),
        ("exec", "-d", "web", "true"),
        ("exec", "-d", "-it", "web", "sh"),
        ("ps",),
        ("ps", "-a", "--format", "{{.ID}}"),
        ("images",),
        ("start", "web"),
        ("stop", "web"),
        ("rm", "-f", "web"),
        ("inspect", "-f", "{{.Id}}", "web"),
        ("logs", "web"),
        ("run", "--help"),
        ("run", "--nonsense"),
    ],
)
def test_a_command_starts_without_heavy_modules(recorder, words):
    modules = imported(recorder, *words)

    assert "sampan.cli.main" in modules
    assert not modules & FORBIDDEN


def test_running_a_container_imports_these_modules_of_ours_and_no_others(recorder):
    modules = {name for name in imported(recorder, "run", "-d", "image", "true") if name.startswith("sampan")}

    assert modules == {
        "sampan",
        "sampan.cli",
        "sampan.cli.body",
        "sampan.cli.command",
        "sampan.cli.commands",
        "sampan.cli.commands.create",
        "sampan.cli.commands.run",
        "sampan.cli.failure",
        "sampan.cli.flags",
        "sampan.cli.main",
        "sampan.cli.options",
        "sampan.cli.output",
        "sampan.cli.session",
        "sampan.cli.verbs",
        "sampan.cli.waiting",
        "sampan.client",
        "sampan.client.jsontext",
        "sampan.client.wire",
        "sampan.dirs",
        "sampan.errors",
    }


def test_each_flag_of_the_rare_part_has_it_imported():
    assert set(body._RARE) == set(body_rare.RARE)  # one that is missing here would be accepted and ignored
