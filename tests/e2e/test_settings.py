"""config.toml: mirrors, a default registry, insecure and blocked ones, and what is wrong in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.fake_registry import FakeRegistry
from support.images import busybox_tar
from support.sampan import Sampan


@pytest.fixture
def server(tmp_path) -> Iterator[FakeRegistry]:
    fake = FakeRegistry()
    tar = busybox_tar(tmp_path / "busybox.tar").read_bytes()
    for repository in ("library/tiny", "tiny"):
        fake.put_image(repository, "latest", tar)
    yield fake
    fake.end()


@pytest.fixture
def configure(sampan: Sampan) -> Iterator[Callable[[str], None]]:
    path = sampan.root / "config.toml"
    yield lambda text: path.write_text(text) and None
    path.unlink(missing_ok=True)


def test_docker_hub_is_read_through_its_mirror(sampan: Sampan, server: FakeRegistry, configure) -> None:
    configure(f'[registries."docker.io"]\nmirrors = ["{server.address}"]\n')

    pulled = sampan("pull", "tiny")

    assert pulled.lines[-2:] == ["Status: Downloaded newer image for tiny:latest", "docker.io/library/tiny:latest"]
    assert sampan("run", "--rm", "--network", "none", "tiny", "echo", "ok").line == "ok"
    info = sampan("info").out
    assert f" Registry Mirrors:\n  https://{server.address}/\n" in info
    sampan("rmi", "tiny")


def test_short_names_go_to_the_default_registry(sampan: Sampan, server: FakeRegistry, configure) -> None:
    configure(f'[registries]\ndefault = "{server.address}"\n')

    pulled = sampan("pull", "tiny")

    assert pulled.lines[0] == "Using default tag: latest"
    assert pulled.line.endswith(f"\n{server.address}/tiny:latest")
    assert "Using default tag" not in sampan("pull", "tiny:latest").out
    sampan("tag", "tiny", "mine:1")
    assert sampan("images", "--format", "{{.Repository}}:{{.Tag}}", "mine").lines == []
    assert sampan("image", "inspect", "-f", "{{.RepoTags}}", "tiny").line == (
        f"[{server.address}/mine:1 {server.address}/tiny:latest]"
    )
    assert sampan("run", "--rm", "--network", "none", "mine:1", "echo", "ok").line == "ok"
    assert sampan.json("info", "-f", "json")["IndexServerAddress"] == server.address
    sampan("rmi", "mine:1", "tiny")
    assert server.address not in sampan("images").out


def test_places_and_lists_without_a_registry_are_in_the_default_one(
    sampan: Sampan, server: FakeRegistry, configure, tmp_path
) -> None:
    configure(f'[registries]\ndefault = "{server.address}"\n')

    assert sampan.json("inspect", "docker://tiny")["Name"] == f"{server.address}/tiny"
    assert sampan.json("list-tags", "docker://tiny")["Repository"] == f"{server.address}/tiny"
    sampan("copy", "docker://tiny", f"dir:{tmp_path}/new")
    sampan("copy", "docker://tiny", "store:tiny")
    sampan("manifest", "create", "list", "docker://tiny")
    sampan("copy", "store:tiny", "docker://other")
    sampan("manifest", "push", "list", "third")
    sampan("delete", "docker://other")

    written = [path for verb, path, _ in server.requests if verb == "PUT" and "/manifests/" in path]
    assert [path.partition("/manifests/")[0] for path in written] == ["/v2/other", "/v2/third", "/v2/third"]
    assert f"{server.address}/tiny" in sampan("images", "--format", "{{.Repository}}").lines
    sampan("rmi", "tiny")
    sampan("manifest", "rm", "list")


def test_what_is_here_from_docker_hub_is_found_by_its_short_name(
    sampan: Sampan, server: FakeRegistry, configure
) -> None:
    configure(f'[registries]\ndefault = "{server.address}"\n')

    assert sampan("run", "--rm", "--network", "none", "busybox", "echo", "ok").line == "ok"


def test_insecure_registries_are_told(sampan: Sampan, configure) -> None:
    configure('[registries."registry.example:5000"]\ninsecure = true\n')

    assert " Insecure Registries:\n  registry.example:5000\n  ::1/128\n  127.0.0.0/8\n" in sampan("info").out


def test_a_blocked_registry_is_not_gone_to(sampan: Sampan, server: FakeRegistry, configure) -> None:
    configure(f'[registries."{server.address}"]\nblocked = true\n')

    refused = sampan.fails(1, "pull", f"{server.address}/tiny")

    assert f"registry {server.address} is blocked in the configuration" in refused.err
    assert server.requests == []


def test_a_mistake_is_named_with_its_file_and_its_key(sampan: Sampan, configure) -> None:
    configure('[registries."docker.io"]\nmirors = ["a.example"]\n')

    refused = sampan.fails(1, "pull", "tiny")

    file = sampan.root / "config.toml"
    assert refused.err.splitlines() == [
        f'Error response from daemon: can\'t use {file}: registries."docker.io".mirors: there is no such key',
        "  hint: did you mean mirrors?",
    ]
    assert f"WARNING: can't use {file}: " in sampan("info").err


def test_docker_hub_is_meant_where_it_is_named(sampan: Sampan, server: FakeRegistry, configure) -> None:
    configure(f'[registries]\ndefault = "nowhere.invalid"\n[registries."docker.io"]\nlocation = "{server.address}"\n')

    assert sampan("pull", "-q", "docker.io/tiny").line == "docker.io/library/tiny:latest"
    assert sampan.json("pull", "--plan", "--format", "json", "docker.io/tiny")
    sampan("rmi", "docker.io/tiny")
