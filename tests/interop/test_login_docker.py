"""login and logout: docker's client with dockerd, docker's client with our engine, and sampan say the same."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.peers import Docker, client
from support.registry import Registry
from support.sampan import Result, Sampan, new_root

USERS = {"me": "secret"}
CASES = [
    (["login", "-u", "me", "-p", "secret", "SERVER"], None),
    (["login", "-u", "me", "--password-stdin", "SERVER"], "secret\n"),
    (["login", "-u", "me", "--password-stdin", "http://SERVER/v2/"], "secret\n"),
    (["login", "SERVER"], None),
    (["login", "-u", "me", "--password-stdin", "SERVER"], "wrong\n"),
    (["login", "-u", "nobody", "--password-stdin", "SERVER"], "secret\n"),
    (["login", "-u", "me", "SERVER"], "secret\n"),
    (["login", "--password-stdin", "SERVER"], "secret\n"),
    (["login", "-u", "me", "-p", "x", "--password-stdin", "SERVER"], "secret\n"),
    (["login", "-u", "", "SERVER"], None),
    (["login", "-u", "me", "-p", "", "SERVER"], None),
    (["logout", "SERVER"], None),
    (["logout", "SERVER"], None),
    (["logout", "never.example"], None),
    (["logout"], None),
]


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    docker = Docker(new_root() / "docker", "sampan-login-test")
    yield docker
    docker.end()
    docker.directory.parent.rmdir()


@pytest.fixture(scope="module")
def recorded(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    """What the real ones answer to each case, and what config.json is then."""
    within = ("nsenter", f"--net=/proc/{docker.server.pid}/ns/net")
    subprocess.run([*within, "ip", "link", "set", "lo", "up"], check=True)
    registry = Registry(tmp_path_factory.mktemp("theirs"), within, users=USERS)
    try:
        return transcript(docker, registry, docker.directory / "docker-config")
    finally:
        registry.end()


def transcript(program: Callable[..., Result], registry: Registry, home: Path) -> list[tuple[object, ...]]:
    """Perform the cases; addresses and paths are made alike."""
    shutil.rmtree(home, ignore_errors=True)
    found: list[tuple[object, ...]] = []
    for words, input in CASES:
        done = program(*(word.replace("SERVER", registry.address) for word in words), input=input)
        file = home / "config.json"
        config = json.loads(file.read_text()) if file.exists() else None
        texts = [done.out, done.err, json.dumps(config)]
        alike = [text.replace(registry.address, "SERVER").replace(str(home), "HOME") for text in texts]
        found.append((" ".join(words), done.code, *alike))
    return found


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    found = Registry(tmp_path / "ours", users=USERS)
    yield found
    found.end()


def test_dockers_client_gets_the_same_answers_from_our_engine(
    recorded: list[tuple[object, ...]], sampan: Sampan, registry: Registry, tmp_path: Path
) -> None:
    sampan("version")

    def docker(*words: str, **how: str | None) -> Result:
        return client(sampan.socket, tmp_path, *words, **how)  # type: ignore[arg-type]

    assert transcript(docker, registry, tmp_path / "docker-config") == recorded


def test_sampan_says_what_docker_says(
    recorded: list[tuple[object, ...]], sampan: Sampan, registry: Registry, tmp_path: Path
) -> None:
    home = tmp_path / "docker-config"

    def ours(*words: str, input: str | None) -> Result:
        done = sampan(*words, input=input, check=False, env={"DOCKER_CONFIG": str(home)})
        lines = [line for line in done.err.splitlines(keepends=True) if not line.startswith("  hint: ")]
        return done._replace(err="".join(lines).replace("'sampan log", "'docker log"))

    assert transcript(ours, registry, home) == recorded
