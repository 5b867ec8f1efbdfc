"""docker-py's builds at sampan's socket: its `images.build` reads Docker's classic stream."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import APIError, BuildError

from support.sampan import Sampan


@pytest.fixture
def client(sampan: Sampan) -> Iterator[docker.DockerClient]:
    sampan("ps")  # starts the server
    client = docker.DockerClient(base_url=f"unix://{sampan.socket}")
    yield client
    client.close()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("hello\n")
    (tmp_path / "left-out").write_text("no\n")
    (tmp_path / ".dockerignore").write_text("left-*\n")
    text = "FROM busybox\nARG WHO=nobody\nCOPY . /context/\nRUN echo $WHO > /who\nCMD cat /who /context/file\n"
    (tmp_path / "Dockerfile").write_text(text)
    return tmp_path


def test_a_directory_is_built_with_tags_arguments_and_labels(
    client: docker.DockerClient, sampan: Sampan, context: Path
) -> None:
    image, told = client.images.build(
        path=str(context), tag="py:1", buildargs={"WHO": "me"}, labels={"a": "b"}, rm=True
    )

    text = "".join(line.get("stream", "") for line in told)
    assert image.tags == ["py:1"]
    assert image.labels == {"a": "b"}
    assert "Step 1/5 : FROM busybox\n" in text
    assert text.endswith(f"Successfully built {image.short_id.removeprefix('sha256:')}\nSuccessfully tagged py:1\n")
    assert client.containers.run("py:1", remove=True) == b"me\nhello\n"
    assert client.containers.run("py:1", "ls /context", remove=True) == b"Dockerfile\nfile\n"
    assert sampan("ps", "-aq").out == ""


def test_a_second_build_uses_the_cache(client: docker.DockerClient, context: Path) -> None:
    first, _ = client.images.build(path=str(context))

    again, told = client.images.build(path=str(context))

    assert again.id == first.id
    assert "".join(line.get("stream", "") for line in told).count(" ---> Using cache\n") == 2


def test_a_dockerfile_alone_and_an_archive_are_built(client: docker.DockerClient) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("sub/D")
        member.size = len(b"FROM busybox\nCOPY sub/D /\n")
        tar.addfile(member, io.BytesIO(b"FROM busybox\nCOPY sub/D /\n"))
    archive.seek(0)

    alone, _ = client.images.build(fileobj=io.BytesIO(b"FROM busybox\nENV A=b\n"))
    packed, _ = client.images.build(fileobj=archive, custom_context=True, encoding="gzip", dockerfile="sub/D")

    assert "A=b" in alone.attrs["Config"]["Env"]
    assert client.containers.run(packed.id, "ls /D", remove=True) == b"/D\n"


def test_limits_hosts_networks_and_targets_are_heeded(client: docker.DockerClient, context: Path) -> None:
    (context / "Dockerfile").write_text(
        "FROM busybox AS first\n"
        "RUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; "
        "grep 'there$' /etc/hosts; df -k /dev/shm | tail -1; ls /sys/class/net\n"
        "FROM busybox\nRUN false\n"
    )

    _, told = client.images.build(
        path=str(context), target="first", network_mode="none", extra_hosts={"there": "10.9.8.7"}, shmsize=2 << 20,
        container_limits={"memory": 64 << 20},
    )  # fmt: skip

    text = "".join(line.get("stream", "") for line in told)
    assert str(64 << 20) in text
    assert "10.9.8.7\tthere" in text
    assert " 2048 " in text
    assert "eth0" not in text


def test_a_failing_step_is_an_error_with_the_output_so_far(client: docker.DockerClient) -> None:
    with pytest.raises(BuildError) as failure:
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN echo why; exit 7\n"))

    assert failure.value.msg == "The command '/bin/sh -c echo why; exit 7' returned a non-zero code: 7"
    assert {"stream": "why\n"} in list(failure.value.build_log)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"FROM busybox\nFOO\n", "unknown instruction: FOO"),
        (b"", "cannot be empty|file with no instructions"),
        (b"RUN x\n", "no build stage in current context"),
    ],
)
def test_a_dockerfile_that_is_wrong_is_refused(client: docker.DockerClient, text: bytes, told: str) -> None:
    with pytest.raises((APIError, BuildError), match=told):
        client.images.build(fileobj=io.BytesIO(text))


def test_what_only_buildkit_has_by_this_api_is_refused(client: docker.DockerClient) -> None:
    url = client.api._url("/build")

    answer = client.api.post(url, params={"version": "2"})

    assert answer.status_code == 501
    assert "sampan build" in answer.json()["hint"]


def test_the_cache_is_pruned(client: docker.DockerClient, context: Path) -> None:
    client.images.build(path=str(context), tag="py:prune")

    assert client.api.prune_builds(all=True)["SpaceReclaimed"] >= 0
