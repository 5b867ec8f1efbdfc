"""sampan answers as docker did when `make goldens` recorded it: by itself, and behind the real docker client."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.peers import client
from support.registry import Registry
from support.sampan import Sampan
from support.transcript import GOLDENS, read, replay, stocked

TRANSCRIPTS = sorted(GOLDENS.glob("*.txt"))
CLIENTS = ["sampan", *(["docker"] if shutil.which("docker") else [])]


@pytest.fixture
def prepared(sampan: Sampan, busybox_tar: Path) -> Iterator[Sampan]:
    """Give each transcript an instance whose only image is busybox, and busybox back to the next."""
    yield sampan
    sampan.remove_everything()
    sampan("network", "prune", "-f")
    sampan("volume", "prune", "-af")
    for id in sampan("images", "-aq", "--no-trunc", "-f", "readonly=false").lines:
        sampan("rmi", "-f", id, check=False)
    sampan("import", busybox_tar, "busybox")


@pytest.fixture(scope="module")
def names(registry: Registry, tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> dict[str, str]:
    return stocked(registry, tmp_path_factory.mktemp("boxes"), busybox_tar)


def words(outcome: object) -> list[str]:
    """Return an answer's words without their order: docker's client keeps the -v flags in a map, in no order."""
    return sorted(re.split(r"[\s,\[\]]+", str(outcome)))


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
def test_the_answers_are_dockers(
    prepared: Sampan, names: dict[str, str], tmp_path: Path, path: Path, name: str
) -> None:
    recorded = read(path)

    def run(*words: str):
        if name == "docker":
            return client(prepared.socket, tmp_path, *words)
        return prepared(*words, check=False)

    differing = [
        f"$ {theirs.line}\n--- docker\n{theirs.outcome}--- sampan\n{ours.outcome}"
        for theirs, ours in zip(recorded, replay(recorded, run, names), strict=True)
        if theirs != ours and not (name == "docker" and words(theirs.outcome) == words(ours.outcome))
    ]
    assert not differing, f"{len(differing)} of {len(recorded)} differ:\n\n" + "\n".join(differing)
