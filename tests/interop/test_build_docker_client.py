"""The real docker client builds at sampan's socket, by the classic API: DOCKER_BUILDKIT=0."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.peers import client
from support.sampan import Result, Sampan

if not shutil.which("docker"):
    pytest.skip("the docker client is not installed", allow_module_level=True)

Docker = Callable[..., Result]


@pytest.fixture
def docker(sampan: Sampan) -> Docker:
    sampan("ps")  # starts the server
    return lambda *args, **how: client(sampan.socket, sampan.root, *args, **how)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    (path / "file").write_text("hello\n")
    (path / "Dockerfile").write_text(
        "FROM busybox AS one\nCOPY file /\nFROM busybox\nCOPY --from=one /file /\nCMD cat /file\n"
    )
    return path


def test_build_prints_steps_and_names_the_image(docker: Docker, context: Path) -> None:
    done = docker("build", "-t", "dk:1", "-t", "dk:2", "--iidfile", context.parent / "id", context, check=True)

    steps = [line for line in done.out.splitlines() if line.startswith("Step ")]
    assert steps == [
        "Step 1/5 : FROM busybox AS one",
        "Step 2/5 : COPY file /",
        "Step 3/5 : FROM busybox",
        "Step 4/5 : COPY --from=one /file /",
        "Step 5/5 : CMD cat /file",
    ]
    id = (context.parent / "id").read_text()
    assert f"Successfully built {id.removeprefix('sha256:')[:12]}\n" in done.out
    assert done.out.endswith("Successfully tagged dk:1\nSuccessfully tagged dk:2\n")
    assert docker("run", "--rm", "dk:2").out == "hello\n"


def test_a_quiet_build_prints_the_id(docker: Docker, context: Path) -> None:
    done = docker("build", "-q", context, check=True)

    assert docker("run", "--rm", done.line).out == "hello\n"


def test_all_flags_of_the_classic_client_are_heeded(docker: Docker, context: Path) -> None:
    (context / "D").write_text(
        "FROM busybox AS first\nARG A\nRUN echo $A; ulimit -n; grep there /etc/hosts\nFROM nosuch\n"
    )

    done = docker(
        "build", "-f", context / "D", "--target", "first", "--build-arg", "A=given", "--label", "x=y", "--no-cache",
        "--pull=false", "--rm=false", "--force-rm", "--network", "none", "--add-host", "there:10.9.8.7", "-m", "64m",
        "--memory-swap", "-1", "--cpu-shares", "512", "--cpuset-cpus", "0", "--shm-size", "1m",
        "--ulimit", "nofile=99:99", "--compress", "-t", "flags", context, check=True,
    )  # fmt: skip

    assert "given\n99\n10.9.8.7\tthere\n" in done.out
    assert docker("inspect", "-f", "{{.Config.Labels.x}}", "flags").line == "y"


def test_a_dockerfile_on_standard_input_is_built(docker: Docker) -> None:
    id = docker("build", "-q", "-", input="FROM busybox\nCMD echo from stdin\n", check=True).line

    assert docker("run", "--rm", id).out == "from stdin\n"


def test_a_step_that_fails_ends_the_client_with_its_code(docker: Docker, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo so far; exit 42\n")

    failed = docker("build", context)

    assert failed.code == 42
    assert "so far\n" in failed.out
    assert "The command '/bin/sh -c echo so far; exit 42' returned a non-zero code: 42" in failed.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("FROM busybox\nFOO\n", "unknown instruction: FOO"),
        ("FROM busybox\nCOPY nope /\n", "nope"),
        ("FROM busybox AS a\nFROM b AS b\nFROM c\nCOPY --from=nope.invalid/x / /\n", "can't reach registry"),
    ],
)
def test_what_is_wrong_is_told(docker: Docker, context: Path, text: str, told: str) -> None:
    (context / "Dockerfile").write_text(text)

    failed = docker("build", context)

    assert failed.code == 1
    assert told in failed.err


def test_the_cache_is_pruned_and_shown(docker: Docker, context: Path) -> None:
    docker("build", context, check=True)

    assert "Build Cache" in docker("system", "df", check=True).out
    assert "Total reclaimed space:" in docker("builder", "prune", "-af", check=True).out
