"""Images between registries that want to know who is there, and with blobs kept: what the store's settings change."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.layouts import HandMade, platforms, two_layers
from support.own_registry import OwnRegistry
from support.registry import Registry
from support.sampan import Sampan

USERS = "me:$2y$05$vjEjBDr6wdR2I9BsLMSTHezhsh7XG5jnbtCF8v9UWCWZk6mZnGLI6\n"  # secret


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRegistry]:
    """Our own registry, for its users only."""
    base = tmp_path_factory.mktemp("closed")
    (base / "users").write_text(USERS)
    registry = OwnRegistry(base / "data", base / "log", "--htpasswd", str(base / "users"))
    yield registry
    registry.end()


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    layout = HandMade(tmp_path_factory.mktemp("multi") / "layout")
    return f"oci:{layout.path}:multi", platforms(layout, "multi")


def test_credentials_are_given_or_found(
    sampan: Sampan, closed: OwnRegistry, registry: Registry, multi: tuple[str, str], tmp_path: Path
) -> None:
    place, digest = multi
    there, open_there = f"docker://{closed.address}/app:1", f"docker://{registry.address}/from-closed:1"

    assert "unauthorized" in sampan.fails(1, "copy", place, there).err
    assert "unauthorized" in sampan.fails(1, "copy", "--dest-creds", "me:wrong", place, there).err
    assert sampan("copy", "-q", "--dest-creds", "me:secret", place, there).line == digest
    assert sampan("copy", "-q", "--src-creds", "me:secret", there, open_there).line == digest
    assert "unauthorized" in sampan.fails(1, "inspect", there).err
    assert sampan.json("inspect", "--creds", "me:secret", there)["Digest"] == digest
    assert sampan.json("list-tags", "--creds", "me:secret", there.removesuffix(":1"))["Tags"] == ["1"]

    (tmp_path / "config.json").write_text(json.dumps({"auths": {closed.address: {"auth": "bWU6c2VjcmV0"}}}))
    known = {"DOCKER_CONFIG": str(tmp_path)}
    sampan("tag", "busybox", f"{closed.address}/pushed:1")
    assert "denied" in sampan.fails(1, "push", f"{closed.address}/pushed:1").err
    sampan("push", f"{closed.address}/pushed:1", env=known)
    sampan("copy", there, "store:closed:1", env=known)
    sampan("manifest", "create", "closed", there, f"docker://{closed.address}/pushed:1", env=known)
    sampan("manifest", "push", "--purge", "closed", f"{closed.address}/list:1", env=known)
    assert (
        len(json.loads(sampan("inspect", "--raw", f"docker://{closed.address}/list:1", env=known).out)["manifests"])
        == 2
    )
    sampan("delete", f"docker://{closed.address}/list:1", env=known)
    assert "not found" in sampan.fails(1, "inspect", f"docker://{closed.address}/list:1", env=known).err


def test_an_image_goes_from_one_closed_registry_to_an_open_one_by_way_of_the_store(
    sampan: Sampan, closed: OwnRegistry, registry: Registry, tmp_path: Path
) -> None:
    layout = HandMade(tmp_path / "layout")
    digest = layout.name(layout.image(*two_layers()), "x")
    sampan("copy", "--dest-creds", "me:secret", f"oci:{layout.path}:x", f"docker://{closed.address}/way:1")
    sampan("copy", "--src-creds", "me:secret", f"docker://{closed.address}/way:1", f"store:{registry.address}/way:1")

    said = sampan("push", f"{registry.address}/way:1").out

    # The engine's own user has no credentials for where it came from.
    assert f"The digest is not {digest} any more" in said
    assert "unauthorized" in said


def test_kept_blobs_are_what_goes_out(instance: Sampan, registry: Registry, tmp_path: Path) -> None:
    layout = HandMade(tmp_path / "layout")
    digest = layout.name(layout.image(*two_layers()), "x")
    instance.root.mkdir(exist_ok=True)
    (instance.root / "config.toml").write_text("[store]\nkeep-blobs = true\n")
    gone = Registry(tmp_path / "gone")
    try:
        gone.push(f"oci:{layout.path}:x", "app:1")
        instance("pull", "-q", f"{gone.address}/app:1")
    finally:
        gone.end()
    instance("tag", f"{gone.address}/app:1", f"{registry.address}/kept:1")

    assert f"1: digest: {digest} size:" in instance("push", f"{registry.address}/kept:1").lines[-1]
    for words in ((), ("--format", "oci-archive")):
        saved = instance("save", *words, "-o", tmp_path / "a.tar", f"{registry.address}/kept:1")
        assert saved.err == ""
        index = json.loads(subprocess.check_output(["tar", "-xOf", tmp_path / "a.tar", "index.json"]))
        assert index["manifests"][0]["digest"] == digest
    assert instance("load", "-i", tmp_path / "a.tar").line == f"Loaded image: {registry.address}/kept:1"


def test_what_can_not_be_kept_in_an_archive_is_said(instance: Sampan, tmp_path: Path) -> None:
    layout = HandMade(tmp_path / "layout")
    digest = layout.name(layout.image(*two_layers()), "x")
    gone = Registry(tmp_path / "gone")
    try:
        gone.push(f"oci:{layout.path}:x", "app:1")
        instance("pull", "-q", f"{gone.address}/app:1")
        name = f"{gone.address}/app:1"
        assert instance("save", "--format", "oci-archive", "-o", tmp_path / "a.tar", name).err == ""
        index = json.loads(subprocess.check_output(["tar", "-xOf", tmp_path / "a.tar", "index.json"]))
        assert index["manifests"][0]["digest"] == digest
    finally:
        gone.end()

    said = instance("save", "--format", "oci-archive", "-o", tmp_path / "a.tar", name).err
    assert f"the digest is not {digest} any more" in said
    assert "connection refused" in said
    assert instance("save", "-o", tmp_path / "a.tar", name).err == ""
