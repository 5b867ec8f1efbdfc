"""`image map`: where the bytes of an image are, as tables, as JSON, as a page."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from sampan.client import Client
from support.images import add, oci_layout
from support.sampan import Sampan


def tar(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            add(archive, name, content)
    return path


@pytest.fixture(scope="module")
def mapped(shared: Sampan, tmp_path_factory: pytest.TempPathFactory) -> Sampan:
    """Load an image of three layers, the lowest of which another image has too, and one with hostile names."""
    base = tmp_path_factory.mktemp("map")
    layers = [
        tar(base / "1.tar", ("usr/lib/big", b"x" * 500_000), ("var/cache/a", b"y" * 30_000)),
        tar(base / "2.tar", ("var/cache/.wh.a", b""), ("opt/app", b"z" * 20_000)),
        tar(base / "3.tar", ("opt/app", b"z" * 21_000)),
    ]
    for name, tars in (("app:1", layers), ("base:1", layers[:1])):
        source = oci_layout(base / name.replace(":", "-"), tars, "it")
        subprocess.run(
            ["skopeo", "copy", "-q", "--insecure-policy", source, f"oci-archive:{base}/it.tar:{name}"], check=True
        )
        shared("load", "-i", base / "it.tar")
        (base / "it.tar").unlink()
    evil = tar(base / "evil.tar", ("</script><script>alert(1)</script>\x1b[31m", b"e" * 5000))
    shared("import", "-m", "<img src=x onerror=alert(2)>", evil, "evil:1")
    return shared


def rows(text: str, title: str) -> list[list[str]]:
    """Return the rows of the table below a title."""
    lines = text.split(f"{title}\n", 1)[1].split("\n\n", maxsplit=1)[0].splitlines()
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_tables_tell_of_layers_directories_files_and_waste(mapped: Sampan) -> None:
    said = mapped("image", "map", "app:1").out

    assert said.splitlines()[0].endswith("): 571kB in 3 layers and 4 files")
    assert "50kB (8%) wasted" in said
    assert "530kB (92%) in layers that other images have too" in said
    layers = rows(said, "have too\n")
    assert layers[1:] == [
        ["1", "530kB", "2", "30kB", "base:1", "layer 0"],
        ["2", "20kB", "1", "20kB", "-", "layer 1"],
        ["3", "21kB", "1", "0B", "-", "layer 2"],
    ]
    assert rows(said, "LARGEST DIRECTORIES")[1] == ["500kB", "0B", "1", "1", "/usr"]
    assert rows(said, "LARGEST FILES")[1:3] == [
        ["500kB", "1", "-", "/usr/lib/big"],
        ["30kB", "1", "deleted by 2", "/var/cache/a"],
    ]
    assert rows(said, "WASTED")[1:] == [
        ["30kB", "1", "1", "deleted by 2", "/var/cache"],
        ["20kB", "1", "2", "overwritten by 3", "/opt"],
    ]


def test_depth_and_top_limit_what_is_shown(mapped: Sampan) -> None:
    shallow = mapped("image", "map", "--depth", "1", "--top", "2", "app:1").out

    assert [row[-1] for row in rows(shallow, "LARGEST DIRECTORIES")[1:]] == ["/usr", "/opt"]
    assert len(rows(shallow, "LARGEST FILES")) == 3
    assert "invalid top: -1" in mapped.fails(1, "image", "map", "--top", "-1", "app:1").err


def test_json_has_the_whole_map(mapped: Sampan) -> None:
    found = mapped.json("image", "map", "--format", "json", "app:1")

    assert (found["Size"], found["Wasted"], found["SharedSize"], found["RepoTags"]) == (
        571_000,
        50_000,
        530_000,
        ["app:1"],
    )
    assert found["Nodes"][0]["Layers"] == [[1, 530_000], [2, 20_000], [3, 21_000]]
    with Client(str(mapped.root)) as client:
        typed = client.images.get("app:1").map(top=1)
    assert (typed.size, typed.largest[0].path, typed.nodes) == (571_000, "/usr/lib/big", ())


def test_a_name_can_not_speak_to_the_terminal(mapped: Sampan) -> None:
    said = mapped("image", "map", "evil:1").out

    assert "\x1b" not in said
    assert "alert(1)</script>\\x1b[31m" in said


def test_a_page_is_written(mapped: Sampan, tmp_path: Path) -> None:
    target = tmp_path / "map.html"

    assert mapped("image", "map", "--html", target, "evil:1").line == str(target)
    text = target.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "<script>alert" not in text
    assert "<img" not in text
    assert mapped("image", "map", "--html", "-", "evil:1").out == text
    assert "no such file or directory" in mapped.fails(1, "image", "map", "--html", tmp_path / "x/y", "evil:1").err


def test_what_has_no_layers_is_not_mapped(mapped: Sampan) -> None:
    assert "machine's own root" in mapped.fails(1, "image", "map", "host").err
    assert "No such image: nosuch:latest" in mapped.fails(1, "image", "map", "nosuch").err
    assert "must be json" in mapped.fails(1, "image", "map", "--format", "xml", "app:1").err


def test_an_image_is_mapped_while_it_is_removed(instance: Sampan, busybox_tar: Path) -> None:
    instance("import", busybox_tar, "busybox")
    mapping = [instance.start("image", "map", "--format", "json", "busybox") for _ in range(4)]
    instance("rmi", "busybox")

    for process in mapping:
        out, err = process.communicate(timeout=60)
        assert (process.returncode == 0 and json.loads(out)["Files"] > 0) or b"No such image" in err
    assert instance.leftovers() == []
    assert not list((instance.root / "layers/sha256").iterdir())
