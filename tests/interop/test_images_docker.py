"""Images between sampan and the real docker: its client at our socket, and what one writes read by the other."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.peers import Docker, client
from support.registry import Registry
from support.sampan import Result, Sampan

if not shutil.which("dockerd"):
    pytest.skip("docker is not installed", allow_module_level=True)

Client = Callable[..., Result]


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    docker = Docker(tmp_path_factory.mktemp("d"), "sampan-images")
    yield docker
    docker.end()


@pytest.fixture(scope="module")
def near(dockerd: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry in dockerd's network namespace."""
    registry = dockerd.registry(tmp_path_factory.mktemp("near") / "registry")
    yield registry
    registry.end()


@pytest.fixture
def docker(sampan: Sampan) -> Client:
    """The docker client at sampan's socket."""
    sampan("ps")  # starts the server
    return lambda *args, **how: client(sampan.socket, sampan.root, *args, **how)


@pytest.fixture
def layered(sampan: Sampan, dockerd: Docker, busybox_tar: Path, tmp_path: Path) -> str:
    """An image of two layers that dockerd made, in both; its id."""
    dockerd("import", busybox_tar, "base", check=True)
    made = dockerd("create", "base", "true", check=True).line
    (tmp_path / "note").write_text("copied by docker\n")
    dockerd("cp", tmp_path / "note", f"{made}:/etc/note", check=True)
    dockerd("commit", "-c", "CMD cat /etc/note", made, "layered:1", check=True)
    dockerd("save", "-o", tmp_path / "a.tar", "layered:1", check=True)
    sampan("load", "-i", tmp_path / "a.tar")
    return dockerd("images", "-q", "--no-trunc", "layered:1", check=True).line


def test_what_docker_saves_is_loaded_with_its_id(sampan: Sampan, layered: str) -> None:
    assert sampan.inspect("layered:1")["Id"] == layered
    assert sampan("run", "--rm", "layered:1").line == "copied by docker"


def test_what_docker_saves_is_copied_with_its_links_between_layers(
    sampan: Sampan, dockerd: Docker, layered: str, tmp_path: Path
) -> None:
    dockerd("save", "-o", tmp_path / "both.tar", "base", "layered:1", check=True)

    sampan("copy", f"docker-archive:{tmp_path}/both.tar:layered:1", f"oci:{tmp_path}/layout:x")
    sampan("copy", f"oci:{tmp_path}/layout:x", "store:copied:1")
    assert sampan.inspect("copied:1")["Id"] == layered
    assert sampan("run", "--rm", "copied:1").line == "copied by docker"


@pytest.mark.parametrize("format", ["docker-archive", "docker-client"])
def test_docker_loads_what_is_saved(
    sampan: Sampan, dockerd: Docker, docker: Client, layered: str, tmp_path: Path, format: str
) -> None:
    dockerd.remove_everything()
    target = tmp_path / "ours.tar"
    if format == "docker-client":
        docker("save", "-o", target, "layered:1", check=True)
    else:
        sampan("save", "-o", target, "layered:1")

    assert dockerd("load", "-i", target, check=True).line.endswith("Loaded image: layered:1")
    assert dockerd("images", "-q", "--no-trunc", "layered:1", check=True).line == layered
    diff_ids = sampan.inspect("layered:1")["RootFS"]["Layers"]
    theirs = dockerd("inspect", "-f", "{{json .RootFS.Layers}}", "layered:1", check=True).json()
    assert theirs == diff_ids


def test_dockers_client_pushes_saves_and_loads_at_our_socket(
    sampan: Sampan, docker: Client, registry: Registry, layered: str, tmp_path: Path
) -> None:
    name = f"{registry.address}/client:1"
    docker("tag", "layered:1", name, check=True)

    pushed = docker("push", name, check=True)
    assert pushed.lines[0] == f"The push refers to repository [{registry.address}/client]"
    assert pushed.lines[-1].startswith("1: digest: sha256:")
    assert docker("push", "-q", name, check=True).line == name
    assert "Using default tag" in docker("push", f"{registry.address}/client").out
    docker("save", "-o", tmp_path / "a.tar", name, "busybox", check=True)
    docker("rmi", name, check=True)
    assert f"Loaded image: {name}" in docker("load", "-i", tmp_path / "a.tar", check=True).lines
    assert docker("inspect", "-f", "{{.Id}}", name, check=True).line == layered
    assert docker("save", "--platform", "linux/s390x", "-o", tmp_path / "b.tar", "busybox").code == 1
    assert not (tmp_path / "b.tar").exists()
    manifest = docker("manifest", "inspect", "--insecure", name, check=True).json()
    assert manifest["config"]["digest"] == layered


def test_docker_pulls_what_was_pushed_in_both_forms(
    sampan: Sampan, dockerd: Docker, near: Registry, layered: str, tmp_path: Path
) -> None:
    for format in ("oci", "docker"):
        dockerd.remove_everything()
        sampan("copy", "--format", format, "store:layered:1", f"dir:{tmp_path}/{format}")
        near.push(f"dir:{tmp_path}/{format}", f"both:{format}")

        dockerd("pull", "-q", f"{near.address}/both:{format}", check=True)
        assert dockerd("images", "-q", "--no-trunc", f"{near.address}/both", check=True).line == layered


def test_what_docker_pushes_is_copied_and_keeps_its_digest(
    sampan: Sampan, dockerd: Docker, near: Registry, layered: str, registry: Registry, tmp_path: Path
) -> None:
    dockerd("tag", "layered:1", f"{near.address}/theirs:1", check=True)
    said = dockerd("push", f"{near.address}/theirs:1", check=True).lines[-1]
    digest = next(word for word in said.split() if word.startswith("sha256:"))
    words = ("skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false")
    source = f"docker://{near.address}/theirs:1"
    subprocess.run([*near.within, *words, "--preserve-digests", source, f"dir:{tmp_path}/theirs"], check=True)

    assert sampan("copy", "-q", f"dir:{tmp_path}/theirs", f"docker://{registry.address}/theirs:1").line == digest
    sampan("pull", "-q", f"{registry.address}/theirs:1")
    assert sampan.inspect(f"{registry.address}/theirs:1")["Id"] == layered
    sampan("tag", "layered:1", f"{registry.address}/again:1")
    assert digest in sampan("push", f"{registry.address}/again:1").lines[-1]
