"""The transcripts in tests/goldens/docker, performed again by the real dockerd: they are still what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.peers import Docker
from support.transcript import BRIDGED, GOLDENS, read, replay, stocked

TRANSCRIPTS = sorted(GOLDENS.glob("*.txt"), key=lambda path: (path.stem in BRIDGED, path.stem))


@pytest.fixture(scope="module")
def docker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    docker = Docker(tmp_path_factory.mktemp("d"), "sampan-interop", bridged=request.param)
    yield docker
    docker.end()


@pytest.fixture(scope="module")
def names(docker: Docker, tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Iterator[dict[str, str]]:
    directory = tmp_path_factory.mktemp("r")
    registry = docker.registry(directory / "registry")
    yield stocked(registry, directory, busybox_tar)
    registry.end()


@pytest.fixture
def prepared(docker: Docker, busybox_tar: Path) -> Iterator[Docker]:
    docker("import", busybox_tar, "busybox", check=True)
    yield docker
    docker.remove_everything()


@pytest.mark.parametrize(
    ("docker", "path"),
    [(path.stem in BRIDGED, path) for path in TRANSCRIPTS],
    ids=[path.stem for path in TRANSCRIPTS],
    indirect=["docker"],
)
def test_the_real_docker_still_answers_like_that(prepared: Docker, names: dict[str, str], path: Path) -> None:
    recorded = read(path)

    assert list(replay(recorded, prepared, names)) == recorded
