"""The real docker client and dockerd at our registry, in dockerd's network namespace."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.own_registry import OwnRegistry, serving
from support.peers import Docker
from support.sampan import new_root


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    docker = Docker(new_root() / "docker", "sampan-registry-test")
    subprocess.run([*inside(docker), "ip", "link", "set", "lo", "up"], check=True)
    yield docker
    docker.end()
    docker.directory.parent.rmdir()


def inside(docker: Docker) -> list[str]:
    return ["nsenter", "-t", str(docker.server.pid), "-n"]


@pytest.fixture
def image(docker: Docker, busybox_tar: Path) -> Iterator[str]:
    assert docker("import", busybox_tar, "thing").code == 0
    yield "thing"
    docker.remove_everything()


def push_and_pull(docker: Docker, registry: OwnRegistry, image: str, name: str) -> None:
    name = f"{registry.address}/{name}"
    assert docker("tag", image, name).code == 0
    pushed = docker("push", name)
    assert pushed.code == 0, pushed
    id = docker("image", "inspect", "--format", "{{.Id}}", name).line
    docker("rmi", name)
    pulled = docker("pull", name)
    assert pulled.code == 0, pulled
    assert docker("image", "inspect", "--format", "{{.Id}}", name).line == id


def test_docker_pushes_and_pulls(docker: Docker, image: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "log", prefix=inside(docker)) as registry:
        push_and_pull(docker, registry, image, "team/app:v1")
        again = docker("push", f"{registry.address}/team/app:v1")
        assert "Layer already exists" in again.out
        docker("tag", image, f"{registry.address}/other/app")
        mounted = docker("push", f"{registry.address}/other/app")
        assert "Mounted from team/app" in mounted.out


@pytest.mark.parametrize("options", [(), ("--anonymous-pull",)])
def test_docker_logs_in(docker: Docker, image: str, tmp_path: Path, options: tuple) -> None:
    file = tmp_path / "htpasswd"
    subprocess.run(["htpasswd", "-cBb", "-C", "5", file, "alice", "secret"], check=True, capture_output=True)
    where = tmp_path / "data"

    with serving(where, tmp_path / "log", "--htpasswd", str(file), *options, prefix=inside(docker)) as registry:
        name = f"{registry.address}/app:v1"
        docker("tag", image, name)
        assert docker("push", name).code != 0
        assert docker("login", "-u", "alice", "-p", "wrong", registry.address).code != 0
        assert docker("login", "-u", "alice", "-p", "secret", registry.address).code == 0
        push_and_pull(docker, registry, image, "app:v1")
        docker("logout", registry.address)
        docker("rmi", name)
        assert (docker("pull", name).code == 0) is bool(options)
