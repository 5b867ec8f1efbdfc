"""sampan answers as docker did when `make goldens` recorded it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sampan import Sampan
from support.transcript import GOLDENS, read, replay

TRANSCRIPTS = sorted(GOLDENS.glob("*.txt"))


@pytest.fixture
def prepared(sampan: Sampan, busybox_tar: Path) -> Iterator[Sampan]:
    """Give each transcript an instance with no image but busybox."""
    yield sampan
    sampan.remove_everything()
    for image in sampan("images", "-q", "--filter", "reference=*").lines:
        sampan("rmi", "-f", image, check=False)
    sampan("import", busybox_tar, "busybox")


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
def test_sampan_answers_as_docker_does(prepared: Sampan, path: Path) -> None:
    recorded = read(path)

    differing = []
    for theirs, ours in zip(recorded, replay(recorded, lambda *words: prepared(*words, check=False)), strict=True):
        if theirs != ours:
            differing.append(f"$ {theirs.line}\n--- docker\n{theirs.outcome}--- sampan\n{ours.outcome}")
    assert not differing, f"{len(differing)} of {len(recorded)} differ:\n\n" + "\n".join(differing)
