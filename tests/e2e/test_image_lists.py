"""Lists of images beyond Docker's: what shares, who uses, when; names taken away; the room that images take."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import time
from pathlib import Path
from unittest.mock import ANY

import pytest

from sampan.client import Client
from support.images import add
from support.peers import client as docker_client
from support.sampan import Sampan, wait_until
from support.transcript import normal


@pytest.fixture
def images(instance: Sampan, busybox_tar: Path, tmp_path: Path) -> Sampan:
    """Import one layer as two images, and another layer as a third."""
    with tarfile.open(tmp_path / "small.tar", "w") as tar:
        add(tar, "file", b"x" * 1000)
    instance("import", busybox_tar, "first:1")
    instance("import", "-c", "LABEL a=b", busybox_tar, "second:1")
    instance("import", tmp_path / "small.tar", "small:1")
    return instance


def listed(sampan: Sampan, *flags: str) -> list[str]:
    return sampan("images", "--format", "{{.Repository}}", *flags).lines


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_a_tree_shows_layers_and_who_has_and_uses_them(images: Sampan) -> None:
    images("create", "--name", "idle", "first:1", "true")

    shown = rows(images("images", "--tree", "first").out)

    assert [row[0] for row in shown] == ["IMAGE", "first:1", "└─ Imported from -"]
    assert shown[1][3:6] == ["1.98MB", "0B", "idle (created)"]
    assert shown[2][2:] == ["1.98MB", "0B", "second:1"]
    assert rows(images("image", "tree", "first:1").out) == shown
    (small,) = [json.loads(line) for line in images("images", "--tree", "--format", "json", "small").lines]
    assert [(layer["Size"], layer["SharedWith"]) for layer in small["Layers"]] == [(1000, [])]
    assert (small["Platform"].split("/")[0], small["Users"]) == ("linux", [])


@pytest.mark.parametrize("flag", ["--quiet", "--digests"])
def test_a_tree_is_not_another_form(images: Sampan, flag: str) -> None:
    assert "not yet supported with --tree" in images.fails(1, "images", "--tree", flag).err


def test_an_image_is_used_when_a_container_is_made_or_started(images: Sampan) -> None:
    def used() -> dict[str, str]:
        lines = images("images", "--format", "{{.Repository}} {{.LastUsed}}").lines
        return dict(line.split(" ", 1) for line in lines)

    assert set(used().values()) == {"never"}
    images("create", "--name", "idle", "first:1", "sleep", "100")
    first = used().pop("first")
    assert re.fullmatch(r"now|\d+ seconds ago", first), first
    assert used() == {"first": ANY, "second": "never", "small": "never", "host": "never"}
    assert listed(images, "--sort", "lastused")[0] == "first"
    with Client(str(images.root)) as client:
        before = {image.repo_tags: image.last_used for image in client.images.list()}[("first:1",)]
        time.sleep(1.1)
        images("start", "idle")
        after = {image.repo_tags: image.last_used for image in client.images.list()}[("first:1",)]
    assert before < after


def test_lists_can_be_sorted(images: Sampan) -> None:
    assert listed(images, "--sort", "repository") == ["first", "host", "second", "small"]
    assert listed(images, "--sort", "size")[-2:] == ["small", "host"]
    assert listed(images, "--sort", "created")[-1] == "host"
    assert "must be one of created, id, lastused" in images.fails(1, "images", "--sort", "x").err


def test_podmans_filters_select(images: Sampan) -> None:
    images("create", "--name", "idle", "first:1", "true")
    id = images("images", "-q", "--no-trunc", "small").line.removeprefix("sha256:")

    assert listed(images, "-f", "containers=true") == ["first"]
    assert listed(images, "-f", "readonly=true") == ["host"]
    assert listed(images, "-f", f"id={id[:10]}") == ["small"]
    assert listed(images, "-f", "intermediate=true") == []
    assert listed(images, "-f", "digest=sha256:0000") == []
    assert listed(images, "-f", "label!=a", "-f", "readonly=false", "--sort", "repository") == ["first", "small"]
    assert listed(images, "-f", "unused-for=1h") == ["host"]
    assert "invalid filter 'nosuch'" in images.fails(1, "images", "-f", "nosuch=1").err
    assert "invalid filter 'id='" in images.fails(1, "images", "-f", "id=").err
    assert "invalid filter 'containers=[x]'" in images.fails(1, "images", "-f", "containers=x").err


def test_what_is_shared_is_told_where_it_is_asked_for(images: Sampan) -> None:
    template = "{{.Repository}} {{.SharedSize}} {{.UniqueSize}} {{.Containers}}"

    assert "first 1.982MB 0B 0" in images("images", "--format", template).lines
    assert "small 0B 1kB 0" in images("images", "--format", template).lines
    with Client(str(images.root)) as client:
        assert {image.shared_size for image in client.images.list()} == {-1}
        sizes = {image.repo_tags: image.shared_size for image in client.images.list(shared_size=True)}
        assert sizes[("small:1",)] == 0
        assert sizes[("first:1",)] == sizes[("second:1",)] > 1_000_000


def test_room_is_counted_once_and_given_back_only_where_nothing_needs_it(images: Sampan) -> None:
    def row() -> str:
        return images(
            "system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}"
        ).lines[0]

    assert row() == "Images 3 0 1.983MB 1.983MB (100%)"
    images("create", "--name", "idle", "first:1", "true")
    assert row() == "Images 3 1 1.983MB 1kB (0%)"
    images("rmi", "-f", "first:1", "second:1")
    assert row() == "Images 1 0 1.983MB 1kB (0%)"
    images("rm", "idle")
    images("image", "prune", "-f")
    wait_until(lambda: row() == "Images 1 0 1kB 1kB (100%)")  # layers of an image removed by force go behind the answer


def test_names_are_taken_away_and_the_image_stays(images: Sampan) -> None:
    images("tag", "first:1", "other:2")

    assert images("untag", "first:1", "other:2").lines == ["Untagged: other:2"]
    assert "it is no name of image" in images.fails(1, "image", "untag", "first:1", "second:1").err
    id = images("images", "-q", "--no-trunc", "first").line
    assert images("image", "untag", "first:1").lines == ["Untagged: first:1"]
    assert images("images", "-f", "dangling=true", "-q", "--no-trunc").lines == [id]
    images("tag", "host", "mine:1")
    assert "it is no name of image" in images.fails(1, "untag", "mine:1", "host").err
    assert images("untag", "mine:1", "mine:1").lines == ["Untagged: mine:1"]


def test_the_status_tells_whether_an_image_is_here(images: Sampan) -> None:
    assert images("image", "exists", "first:1")[1:] == (0, "", "")
    assert images("image", "exists", "first:2", check=False)[1:] == (1, "", "")
    images.fails(1, "image", "exists", "No:t")


@pytest.mark.skipif(not shutil.which("docker"), reason="the docker client is not installed")
def test_dockers_own_client_draws_its_tree_and_tables(images: Sampan, tmp_path: Path) -> None:
    images("create", "--name", "idle", "first:1", "true")

    drawn = docker_client(images.socket, tmp_path, "images", "--tree", check=True).out
    usage = docker_client(images.socket, tmp_path, "system", "df", "-v", check=True).out

    assert "first:1" in drawn
    assert "└─ linux/" in drawn
    assert normal(usage) == normal(images("system", "df", "-v").out)  # a second may lie between them


def test_a_type_of_room_can_be_asked_for_alone(images: Sampan) -> None:
    with Client(str(images.root)) as client:
        usage = client.disk_usage("volume")
        assert (usage.images, usage.containers, usage.volumes) == (None, None, ())
        assert len(client.disk_usage("image", "container").images or ()) == 3
        with pytest.raises(Exception, match="unknown object type: nosuch"):
            client.disk_usage("nosuch")


def test_an_image_of_another_platform_is_not_found(images: Sampan, tmp_path: Path) -> None:
    machine = images("image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", "first:1").line

    for verb in (("image", "inspect"), ("history",), ("rmi",)):
        said = images.fails(1, *verb, "--platform", "linux/s390x", "first:1").err
        assert f"its platform ({machine}) does not match the specified platform (linux/s390x)" in said
    assert (
        "multiple platforms"
        in images.fails(1, "rmi", "--platform", machine, "--platform", "linux/s390x", "first:1").err
    )
    assert "Imported from" in images("history", "--platform", machine, "first:1").out
    assert images("rmi", "--platform", machine, "small:1").lines[0] == "Untagged: small:1"


def test_the_manifest_is_told_where_it_is_asked_for(images: Sampan) -> None:
    images("create", "--name", "idle", "first:1", "true")
    with Client(str(images.root)) as client:
        image = client.images.get("first:1", manifests=True)
        (manifest,) = image.attributes.manifests or ()
        assert (manifest.id, manifest.kind, manifest.available) == (image.id, "image", True)
        assert manifest.image_data is not None
        assert manifest.image_data.containers == (client.containers.get("idle").id,)
        assert manifest.image_data.size.unpacked == image.attributes.size
        assert client.images.get("first:1").attributes.manifests is None
        assert client.images.get("first:1").attributes.descriptor is None
