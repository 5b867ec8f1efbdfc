"""Indexes made with `sampan manifest`, pushed, and read by skopeo and podman."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.layouts import HandMade, platforms, two_layers
from support.registry import Registry
from support.sampan import Sampan


@pytest.fixture(scope="module")
def images(shared: Sampan, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Images for two architectures, at a registry."""
    layout = HandMade(tmp_path_factory.mktemp("images") / "layout")
    lower, upper = two_layers()
    layout.name(layout.image(lower), "amd64")
    layout.name(layout.image(lower, upper, architecture="arm64"), "arm64")
    platforms(layout, "both")
    for name in ("amd64", "arm64", "both"):
        shared("copy", "-q", f"oci:{layout.path}:{name}", f"docker://{registry.address}/app:{name}")
    return [f"{registry.address}/app:{name}" for name in ("amd64", "arm64", "both")]


def raw(name: str) -> Any:
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"], capture_output=True, check=True
    )
    return json.loads(done.stdout)


def shown(index: Any) -> list[str]:
    return [entry["platform"]["architecture"] for entry in index["manifests"]]


def test_a_list_is_made_annotated_pushed_and_forgotten(sampan: Sampan, registry: Registry, images: list[str]) -> None:
    amd, arm, _ = images
    name = f"{registry.address}/made/list:1"

    assert sampan("manifest", "create", name, amd).line == f"Created manifest list {name}"
    assert "no --amend flag" in sampan.fails(1, "manifest", "create", name, arm).err
    sampan("manifest", "create", "--amend", "--annotation", "of=list", name, arm)
    sampan("manifest", "annotate", name, arm, "--annotation", "of=image", "--os-features", "a,b")
    sampan("manifest", "annotate", name, f"docker://{arm}", "--variant", "v9")
    local = sampan.json("manifest", "inspect", name)
    digest = sampan("manifest", "push", "--purge", name).lines[-1]

    index = raw(name)
    assert index == local
    assert shown(index) == ["amd64", "arm64"]
    assert index["annotations"] == {"of": "list"}
    assert index["manifests"][1]["annotations"] == {"of": "image"}
    assert index["manifests"][1]["platform"]["variant"] == "v9"
    assert sampan.json("inspect", "--no-tags", f"docker://{name}")["Digest"] == digest
    assert "No such manifest" in sampan.fails(1, "manifest", "push", name).err
    assert sampan("manifest", "exists", name, check=False).code == 1
    skopeo = ["skopeo", "copy", "-q", "--all", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run([*skopeo, f"docker://{name}", f"docker://{registry.address}/by/skopeo:1"], check=True)


def test_images_of_the_store_are_pushed_with_the_list(sampan: Sampan, registry: Registry, images: list[str]) -> None:
    sampan("manifest", "create", "mixed", "busybox", f"docker://{images[1]}")
    before = sampan.json("manifest", "inspect", "mixed")

    sampan("manifest", "push", "mixed", f"docker://{registry.address}/mixed:1")

    index = raw(f"{registry.address}/mixed:1")
    assert shown(index) == shown(before) == ["amd64", "arm64"]
    config = raw(f"{registry.address}/mixed@{index['manifests'][0]['digest']}")["config"]
    assert config["digest"] == sampan.inspect("busybox")["Id"]
    sampan("manifest", "push", "--format", "v2s2", "mixed", f"{registry.address}/mixed:docker")
    assert raw(f"{registry.address}/mixed:docker")["mediaType"].startswith("application/vnd.docker")
    sampan("manifest", "rm", "mixed")


def test_of_an_index_one_image_is_added_or_all(sampan: Sampan, images: list[str], tmp_path: Path) -> None:
    both = images[2]
    sampan("manifest", "create", "one", both)
    sampan("manifest", "create", "--all", "all", both)
    sampan("manifest", "create", "empty")
    sampan("manifest", "add", "--arch", "arm64", "empty", both)

    assert [shown(sampan.json("manifest", "inspect", name)) for name in ("one", "all", "empty")] == [
        ["amd64"],
        ["amd64", "arm64"],
        ["arm64"],
    ]
    digest = sampan.json("manifest", "inspect", "all")["manifests"][0]["digest"]
    sampan("manifest", "remove", "all", digest)
    assert shown(sampan.json("manifest", "inspect", "all")) == ["arm64"]
    assert sampan("manifest", "rm", "one", "all", "empty").out == ""


def test_what_a_registry_has_is_shown_as_dockers_client_shows_it(sampan: Sampan, images: list[str]) -> None:
    amd, _, both = images

    one, verbose = sampan("manifest", "inspect", amd).out, sampan.json("manifest", "inspect", "-v", amd)
    assert one == json.dumps(raw(amd), indent="\t") + "\n"
    assert (verbose["Ref"], verbose["Descriptor"]["platform"]["architecture"]) == (amd, "amd64")
    assert verbose["OCIManifest"] == raw(amd)
    assert sampan("manifest", "inspect", both).out == json.dumps(raw(both), indent="   ") + "\n"
    listed = sampan.json("manifest", "inspect", "-v", both)
    assert [entry["Descriptor"]["platform"]["architecture"] for entry in listed] == ["amd64", "arm64"]


def test_what_can_not_be_done_with_a_list_is_said(sampan: Sampan, registry: Registry, images: list[str]) -> None:
    sampan("manifest", "create", "bad", images[0])
    for words, said in (
        (("annotate", "bad", "busybox", "--arch", "arm64"), "does not exist in bad"),
        (("annotate", "bad", images[0], "--arch", "foo"), "unsupported os/arch combination"),
        (("annotate", "nope", images[0]), "No such manifest: nope"),
        (("add", "nope", images[0]), "No such manifest: nope"),
        (("add", "bad", f"{registry.address}/app:nope"), "not found"),
        (("add", "bad", "docker://A"), "must be lowercase"),
        (("add", "bad", "host"), "this machine's own root"),
        (("inspect", f"{registry.address}/app:nope"), "no such manifest"),
        (("rm", "nope", "bad"), "No such manifest: nope"),
        (("push", "bad"), "No such manifest: bad"),
        (("create", "A"), "must be lowercase"),
        (("create", "--annotation", "=x", "bad"), "NAME=VALUE"),
    ):
        assert said in sampan("manifest", *words, check=False).err, words
    assert sampan("manifest", "exists", "bad", check=False).code == 1


def test_lists_outlive_the_server(sampan: Sampan, images: list[str]) -> None:
    sampan("manifest", "create", "lasting", images[0])
    sampan("system", "stop")

    assert shown(sampan.json("manifest", "inspect", "lasting")) == ["amd64"]
    sampan("manifest", "rm", "lasting")
