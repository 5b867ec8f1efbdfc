"""Images that leave, move and come back, with the real registry, skopeo, podman and umoci: each reads what we write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fake_registry import FakeRegistry
from support.images import add
from support.layouts import HandMade, platforms
from support.registry import Registry
from support.sampan import PROGRAM, Sampan, wait_until


def skopeo(*words: str | Path) -> str:
    done = subprocess.run(["skopeo", *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"skopeo {words}: {done.stderr}"
    return done.stdout


def skopeo_copy(source: str, target: str, *options: str) -> None:
    sides = [f"--{side}-tls-verify=false" for side, name in (("src", source), ("dest", target)) if "docker://" in name]
    skopeo("copy", "-q", "--insecure-policy", *sides, *options, source, target)


def raw(place: str) -> Any:
    """The manifest that skopeo sees."""
    tls = ["--tls-verify=false"] if place.startswith("docker://") else []
    return json.loads(skopeo("inspect", "--raw", *tls, place))


class Podman:
    """podman with a store of its own."""

    def __init__(self, directory: Path) -> None:
        self._start = ["podman", "--root", f"{directory}/p", "--runroot", f"{directory}/r", "--storage-driver", "vfs"]

    def __call__(self, *words: str | Path) -> str:
        done = subprocess.run(
            [*self._start, *map(str, words)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"podman {words}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    with tempfile.TemporaryDirectory(prefix="p-") as directory:  # podman's own limit is 50 characters
        yield Podman(Path(directory))
        subprocess.run(["umount", f"{directory}/p/vfs", f"{directory}/p/overlay"], check=False, capture_output=True)


@pytest.fixture(scope="module")
def made(shared: Sampan, tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> str:
    """An image of two layers that came without a manifest."""
    base = tmp_path_factory.mktemp("made")
    second = base / "second.tar"
    with tarfile.open(second, "w") as tar:
        add(tar, "etc/added", b"by the second layer\n")
    layout = HandMade(base / "layout")
    layout.name(layout.image(busybox_tar.read_bytes(), second.read_bytes(), compress=bytes), "x")
    skopeo_copy(f"oci:{layout.path}:x", f"docker-archive:{base}/a.tar:made:1")
    shared("load", "-i", base / "a.tar")
    return "made:1"


# ----------------------------------------------------------------------------------------------------- push


def test_push_says_what_docker_says(sampan: Sampan, registry: Registry, made: str) -> None:
    name = f"{registry.address}/said"
    sampan("tag", made, f"{name}:1")
    sampan("tag", made, f"{name}:2")
    image = sampan.inspect(made)
    layers = [layer.removeprefix("sha256:")[:12] for layer in image["RootFS"]["Layers"]]

    said = sampan("push", f"{name}:1").lines

    assert said[0] == f"The push refers to repository [{name}]"
    assert sorted(said[1:-1]) == sorted([f"{id}: {what}" for id in layers for what in ("Preparing", "Pushed")])
    digest = sampan.inspect(made)["RepoDigests"][0].partition("@")[2]
    assert (
        said[-1]
        == f"1: digest: {digest} size: {len(skopeo('inspect', '--raw', '--tls-verify=false', f'docker://{name}:1'))}"
    )
    assert [f"{id}: Layer already exists" for id in layers] == sorted(
        (line for line in sampan("push", f"{name}:2").lines if "already" in line),
        key=lambda line: layers.index(line[:12]),
    )
    sampan("tag", made, f"{registry.address}/other:1")
    assert f"{layers[0]}: Mounted from said" in sampan("push", f"{registry.address}/other:1").lines


def test_push_has_dockers_and_podmans_options(sampan: Sampan, registry: Registry, made: str, tmp_path: Path) -> None:
    name = f"{registry.address}/options"
    for tag in ("1", "2", "latest"):
        sampan("tag", made, f"{name}:{tag}")

    assert sampan("push", "-q", f"{name}:1").line == f"{name}:1"
    assert sampan("push", name).lines[0] == "Using default tag: latest"
    told = [line for line in sampan("push", "-a", name).lines if ": digest: sha256:" in line]
    assert [line.partition(":")[0] for line in told] == ["1", "2", "latest"]
    sampan("push", "--format", "v2s2", "--digestfile", tmp_path / "digest", f"{name}:1")
    assert raw(f"docker://{name}@{(tmp_path / 'digest').read_text()}")["mediaType"].startswith("application/vnd.docker")
    zstd = ("--compression-format", "zstd", "--compression-level", "5", "--force-compression", "--format", "oci")
    sampan("push", *zstd, f"{name}:2")
    assert {layer["mediaType"] for layer in raw(f"docker://{name}:2")["layers"]} == {
        "application/vnd.oci.image.layer.v1.tar+zstd"
    }
    assert set(json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{name}"))["Tags"]) == {
        "1",
        "2",
        "latest",
    }


def test_an_image_is_pushed_to_another_name_or_place_as_podman_does_it(
    sampan: Sampan, registry: Registry, made: str, tmp_path: Path
) -> None:
    name = f"{registry.address}/destination"

    sampan("push", "--digestfile", tmp_path / "digest", made, f"{name}:1")
    assert sampan("push", "-q", made, f"docker://{name}").line == f"docker://{name}"
    sampan("push", made, f"dir:{tmp_path}/dir")
    sampan("push", made, f"oci:{tmp_path}/layout:x")

    digest = (tmp_path / "digest").read_text()
    assert sorted(sampan.json("list-tags", f"docker://{name}")["Tags"]) == ["1", "latest"]
    for place in (f"docker://{name}:latest", f"dir:{tmp_path}/dir", f"oci:{tmp_path}/layout:x"):
        assert json.loads(skopeo("inspect", "--tls-verify=false", place))["Digest"] == digest
    assert name not in sampan("images").out
    assert "--all-tags is not for a DESTINATION" in sampan.fails(125, "push", "-a", made, name).err
    assert "No such image: nowhere" in sampan.fails(1, "push", "nowhere", name).err


def test_what_can_not_be_pushed_is_said(sampan: Sampan, registry: Registry, made: str) -> None:
    name = f"{registry.address}/bad"
    assert f"An image does not exist locally with the tag: {name}" in sampan.fails(1, "push", f"{name}:1").err
    sampan("tag", made, f"{name}:1")
    assert f"tag does not exist: {name}:2" in sampan.fails(1, "push", f"{name}:2").err
    assert "cannot push a digest reference" in sampan.fails(1, "push", f"{name}@sha256:{'a' * 64}").err
    assert "tag can't be used with --all-tags/-a" in sampan.fails(1, "push", "-a", f"{name}:1").err
    assert "invalid reference format" in sampan.fails(1, "push", "A B").err
    assert "unknown format" in sampan.fails(1, "push", "--format", "tar", f"{name}:1").err
    assert "invalid compression level" in sampan.fails(1, "push", "--compression-level", "77", f"{name}:1").err
    zstd = ("--format", "docker", "--compression-format", "zstd", "--force-compression")
    assert "zstd" in sampan.fails(1, "push", *zstd, f"{name}:1").err
    sampan("tag", "host", f"{name}:host")
    assert "this machine's own root" in sampan.fails(1, "push", f"{name}:host").err
    sampan("rmi", f"{name}:host", f"{name}:1")


def test_podman_and_skopeo_pull_what_was_pushed(
    sampan: Sampan, registry: Registry, made: str, podman: Podman, tmp_path: Path
) -> None:
    name = f"{registry.address}/pulled:1"
    sampan("tag", made, name)
    for format in ("oci", "docker"):
        sampan("push", "--format", format, name)

        podman("pull", "-q", "--tls-verify=false", name)
        assert f"sha256:{podman('image', 'inspect', '--format', '{{.Id}}', name).strip()}" == sampan.inspect(made)["Id"]
        skopeo_copy(f"docker://{name}", f"dir:{tmp_path}/{format}")


# ----------------------------------------------------------------------------------------------------- save and load


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("compress", [False, True])
def test_archives_are_read_by_skopeo_and_podman_and_loaded_again(
    sampan: Sampan, made: str, podman: Podman, tmp_path: Path, format: str, compress: bool
) -> None:
    if compress and format == "docker-archive":
        assert "not for docker-archive" in sampan.fails(125, "save", "--compress", "-o", tmp_path / "x", made).err
        return
    image = sampan.inspect(made)["Id"]
    words = ["--compress"] if compress else []

    sampan("save", "--format", format, *words, "-o", tmp_path / "a.tar", made)

    name = "1" if format == "oci-archive" else "made:1"
    skopeo_copy(f"{format}:{tmp_path}/a.tar:{name}", f"dir:{tmp_path}/d")
    assert raw(f"dir:{tmp_path}/d")["config"]["digest"] == image
    podman("load", "-q", "-i", tmp_path / "a.tar")
    assert image.removeprefix("sha256:") in podman("images", "-q", "--no-trunc")
    assert sampan("load", "-i", tmp_path / "a.tar").line == "Loaded image: made:1"
    assert sampan.inspect(made)["Id"] == image
    assert (tmp_path / "a.tar").stat().st_mode & 0o777 == 0o600


def test_several_images_are_saved_with_the_names_that_were_asked_for(sampan: Sampan, made: str, tmp_path: Path) -> None:
    sampan("tag", made, "several:1")
    sampan("tag", made, "several:2")
    long = f"registry.example:5000/{'a/' * 40}long:{'t' * 60}"
    sampan("tag", made, long)
    id = sampan.inspect("busybox")["Id"]

    sampan("save", "-o", tmp_path / "a.tar", "several", id, made)

    items = json.loads(subprocess.check_output(["tar", "-xOf", tmp_path / "a.tar", "manifest.json"]))
    assert [item["RepoTags"] for item in items] == [["several:1", "several:2", "made:1"], None]
    with open(tmp_path / "b.tar", "wb") as file:
        subprocess.run([PROGRAM, "save", "several", id, made], env=sampan.env, stdout=file, check=True, timeout=60)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    sampan("save", "-o", tmp_path / "long.tar", long, f"docker.io/{made}")
    sampan("rmi", "several:1", "several:2", long)
    assert sampan("load", "-i", tmp_path / "long.tar").lines == [f"Loaded image: {long}", f"Loaded image: {made}"]
    sampan("rmi", long)
    assert sampan("load", input=(tmp_path / "a.tar").read_bytes()).lines == [
        "Loaded image: several:1",
        "Loaded image: several:2",
        "Loaded image: made:1",
        f"Loaded image ID: {id}",
    ]


def test_layouts_and_directories_are_saved_and_loaded(sampan: Sampan, made: str, tmp_path: Path) -> None:
    image = sampan.inspect(made)["Id"]
    sampan("save", "-q", "--format", "oci-dir", "-o", tmp_path / "oci", made, "busybox")
    sampan("save", "-q", "--format", "docker-dir", "--compress", "-o", tmp_path / "dir", made)

    subprocess.run(["umoci", "stat", "--image", f"{tmp_path}/oci:busybox:latest"], check=False)
    assert "made:1" in subprocess.check_output(["umoci", "ls", "--layout", tmp_path / "oci"], text=True)
    assert raw(f"oci:{tmp_path}/oci:made:1")["config"]["digest"] == image
    assert raw(f"dir:{tmp_path}/dir")["mediaType"].startswith("application/vnd.docker")
    assert raw(f"dir:{tmp_path}/dir")["config"]["digest"] == image
    assert sorted(sampan("load", "-i", tmp_path / "oci").lines) == [
        "Loaded image: busybox:latest",
        "Loaded image: made:1",
    ]
    assert sampan("load", "-i", tmp_path / "dir").line == f"Loaded image ID: {image}"


def test_umoci_unpacks_what_was_saved(sampan: Sampan, made: str, tmp_path: Path) -> None:
    sampan("copy", "-q", f"store:{made}", f"oci:{tmp_path}/oci:x")

    words = ("umoci", "unpack", "--image", f"{tmp_path}/oci:x", tmp_path / "b")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b/rootfs/etc/added").read_text() == "by the second layer\n"


def test_what_can_not_be_saved_is_said(sampan: Sampan, made: str, tmp_path: Path) -> None:
    assert "No such image: nope" in sampan.fails(1, "save", "-o", tmp_path / "a", "nope").err
    assert "this machine's own root" in sampan.fails(1, "save", "-o", tmp_path / "a", "host").err
    assert "invalid output path" in sampan.fails(1, "save", "-o", tmp_path / "no/a", made).err
    assert "cannot write to a directory" in sampan.fails(1, "save", "-o", tmp_path, made).err
    assert "unknown format" in sampan.fails(125, "save", "--format", "tar", made).err
    assert "needs a directory" in sampan.fails(125, "save", "--format", "oci-dir", made).err
    assert (
        "does not match the specified platform"
        in sampan.fails(1, "save", "--platform", "linux/arm64", "-o", tmp_path / "a", made).err
    )
    assert os.listdir(tmp_path) == []


@pytest.fixture
def little(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a megabyte. It comes before the instance, whose server would not see it later."""
    path = tmp_path / "little"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "little", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_leaves_the_old_archive_and_nothing_of_the_new(
    little: Path, instance: Sampan, busybox_tar: Path
) -> None:
    instance("import", busybox_tar, "b")
    (little / "a.tar").write_text("precious")

    for words in (("save", "-o", little / "a.tar", "b"), ("copy", "store:b", f"docker-archive:{little}/a.tar")):
        assert "no space left on device" in instance.fails(1, *words).err
        assert {path.name: path.read_text() for path in little.iterdir()} == {"a.tar": "precious"}
    for place in ("oci", "dir"):
        assert "no space left on device" in instance.fails(1, "copy", "store:b", f"{place}:{little}/{place}").err
    assert [path for path in little.rglob("*") if path.is_file() and path.stat().st_size > 5000] == []


def test_a_directory_that_can_not_be_written_is_named(little: Path, instance: Sampan, busybox_tar: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", little], check=True)
    instance("import", busybox_tar, "b")

    assert "read-only file system" in instance.fails(1, "save", "-o", little / "a.tar", "b").err
    for place in (f"oci:{little}/o", f"dir:{little}/d", f"oci-archive:{little}/a.tar"):
        said = instance.fails(1, "copy", "store:b", place).err
        assert "read-only file system" in said
        assert str(little) in said


# ----------------------------------------------------------------------------------------------------- copy


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A layout with an index of two platforms, and its digest."""
    layout = HandMade(tmp_path_factory.mktemp("multi") / "layout")
    return f"oci:{layout.path}:multi", platforms(layout, "multi")


def digest_at(sampan: Sampan, place: str) -> str:
    return sampan.json("inspect", "--no-tags", place)["Digest"]


def test_an_index_goes_everywhere_and_back_with_its_digest(
    sampan: Sampan, registry: Registry, multi: tuple[str, str], tmp_path: Path
) -> None:
    place, digest = multi
    places = [
        f"docker://{registry.address}/multi:1",
        f"oci:{tmp_path}/oci:1",
        f"dir:{tmp_path}/dir",
        f"oci-archive:{tmp_path}/a.tar:1",
        f"docker://{registry.address}/again/multi:1",
    ]
    for target in places:
        assert sampan("copy", "-q", "--preserve-digests", place, target).line == digest

        assert digest_at(sampan, target) == digest
        skopeo_copy(target, f"dir:{tmp_path}/check", "--all")
        assert len(list((tmp_path / "check").glob("*.manifest.json"))) == 2
        place = target


def test_skopeos_copies_of_an_index_are_read(
    sampan: Sampan, registry: Registry, multi: tuple[str, str], tmp_path: Path
) -> None:
    place, digest = multi
    for target in (f"docker://{registry.address}/skopeo:1", f"oci:{tmp_path}/o:1", f"dir:{tmp_path}/d"):
        skopeo_copy(place, target, "--all")

        assert sampan("copy", "-q", target, f"oci:{tmp_path}/back:1").line == digest
    skopeo_copy(place, f"oci-archive:{tmp_path}/a.tar:1", "--all")
    assert sampan("copy", "-q", f"oci-archive:{tmp_path}/a.tar:1", f"dir:{tmp_path}/back2").line == digest


def test_one_platform_is_copied_where_it_is_asked_for(sampan: Sampan, multi: tuple[str, str], tmp_path: Path) -> None:
    place, digest = multi

    sampan("copy", "--platform", "linux/arm64", place, f"oci:{tmp_path}/arm:1")
    system = sampan("copy", "-q", "--multi-arch", "system", place, f"oci:{tmp_path}/system:1").line
    assert sampan.json("inspect", f"oci:{tmp_path}/arm:1")["Architecture"] == "arm64"
    assert sampan("copy", "-q", "--all=false", place, f"dir:{tmp_path}/d").line == system != digest
    docker = sampan("copy", "-q", place, f"docker-archive:{tmp_path}/a.tar:multi:1").line
    assert docker == system
    assert sampan("load", "-i", tmp_path / "a.tar").line == "Loaded image: multi:1"
    assert (
        "no matching manifest" in sampan.fails(1, "copy", "--platform", "linux/s390x", place, f"dir:{tmp_path}/x").err
    )


def test_the_store_is_a_place_like_others(
    sampan: Sampan, registry: Registry, made: str, multi: tuple[str, str], tmp_path: Path
) -> None:
    image = sampan.inspect(made)["Id"]
    for spelling in ("store", "containers-storage", "docker-daemon"):
        sampan("copy", f"{spelling}:{made}", f"docker://{registry.address}/stored:{spelling}")
    sampan("copy", f"docker://{registry.address}/stored:store", "store:back:1")
    sampan("copy", f"store:{made}", "store:back:2")
    sampan("copy", f"store:{made}", f"docker-archive:{tmp_path}/a.tar:made:1")
    sampan("copy", f"docker-archive:{tmp_path}/a.tar", "store:back:3")
    sampan("copy", multi[0], "store:back:4")

    assert {sampan.inspect(f"back:{tag}")["Id"] for tag in (1, 2, 3)} == {image}
    assert sampan("run", "--rm", "back:1", "cat", "/etc/added").line == "by the second layer"
    sampan("tag", "back:1", f"{registry.address}/stored:x")
    sampan("push", "-q", f"{registry.address}/stored:x")
    assert digest_at(sampan, f"docker://{registry.address}/stored:x") == digest_at(
        sampan, f"docker://{registry.address}/stored:store"
    )


def test_formats_and_compressions_are_changed_on_the_way(
    sampan: Sampan, registry: Registry, multi: tuple[str, str], made: str, tmp_path: Path
) -> None:
    place, digest = multi
    target = f"docker://{registry.address}/form"

    said = sampan("copy", "--format", "v2s2", place, f"{target}:docker").out
    sampan("copy", "--compression-format", "zstd", "--force-compression", place, f"{target}:zstd")
    sampan("copy", "--compression-format", "none", "--force-compression", place, f"{target}:none")

    assert f"The digest is not {digest} any more: its format is docker now" in said
    assert raw(f"{target}:docker")["mediaType"] == "application/vnd.docker.distribution.manifest.list.v2+json"
    for kind in ("zstd", "none", "docker"):
        skopeo_copy(f"{target}:{kind}", f"oci:{tmp_path}/{kind}:1", "--all")
    assert (
        "can't preserve digests"
        in sampan.fails(1, "copy", "--preserve-digests", "--format", "v2s2", place, f"dir:{tmp_path}/x").err
    )
    sampan("copy", f"store:{made}", f"docker-archive:{tmp_path}/a.tar:made:1")
    sampan("copy", f"docker-archive:{tmp_path}/a.tar:made:1", f"{target}:packed")
    assert {layer["mediaType"] for layer in raw(f"{target}:packed")["layers"]} == {
        "application/vnd.oci.image.layer.v1.tar+gzip"
    }
    assert "zstd" in sampan.fails(1, "copy", "--format", "v2s2", f"{target}:zstd", f"dir:{tmp_path}/y").err


def test_what_can_not_be_copied_is_said(
    sampan: Sampan, registry: Registry, multi: tuple[str, str], tmp_path: Path
) -> None:
    place = multi[0]
    for words, said in (
        (("a", f"dir:{tmp_path}/x"), "expected colon-separated transport:reference"),
        (("ftp:a", f"dir:{tmp_path}/x"), "unknown transport"),
        ((place, "docker:x"), "does not start with //"),
        ((f"oci:{tmp_path}/nope", f"dir:{tmp_path}/x"), "no file oci-layout"),
        ((f"oci-archive:{tmp_path}/nope", f"dir:{tmp_path}/x"), "no such file"),
        ((place + "x", f"dir:{tmp_path}/x"), "there is no image multix"),
        ((f"docker://{registry.address}/nope:1", f"dir:{tmp_path}/x"), "not found"),
        (("store:nope", f"dir:{tmp_path}/x"), "No such image"),
        ((place, "store:A"), "must be lowercase"),
        ((place, f"store:a@sha256:{'a' * 64}"), "no digest"),
        (("--format", "oci", place, "store:a"), "keeps images as they come"),
        (("--multi-arch", "some", place, f"dir:{tmp_path}/x"), "unknown multi-arch"),
        ((place, "docker-archive:/dev/null"), "no regular file"),
        ((place, f"docker-archive:{tmp_path}"), "no regular file"),
        ((place, "docker-archive:/proc/version"), "can't write /proc/version"),
        ((f"oci:{tmp_path}/\udc80", f"dir:{tmp_path}/x"), "not in UTF-8"),
        ((place, f"docker://{registry.address}/x@sha256:{'a' * 64}"), "its digest is"),
    ):
        assert said in sampan("copy", *words, check=False).err, words
    assert os.listdir(tmp_path) == []


def test_what_is_at_a_registry_is_looked_at_as_skopeo_does(
    sampan: Sampan, registry: Registry, multi: tuple[str, str], made: str
) -> None:
    name = f"docker://{registry.address}/look:1"
    sampan("copy", multi[0], name)

    for words in ((), ("--raw",), ("--config",), ("--config", "--raw")):
        ours = sampan("inspect", *words, name).out
        theirs = skopeo("inspect", "--tls-verify=false", *words, name)
        if words == ("--config",):
            ours, theirs = (json.dumps(json.loads(text), sort_keys=True) for text in (ours, theirs))
        if not words:
            ours = json.dumps({k: v for k, v in json.loads(ours).items() if k != "LayersData"}, indent=4) + "\n"
        assert ours.strip() == theirs.strip(), words
    assert sampan("list-tags", name.removesuffix(":1")).out == skopeo(
        "list-tags", "--tls-verify=false", name.removesuffix(":1")
    )
    assert sampan("inspect", "-f", "{{.Architecture}} {{.Digest}}", name).line == f"amd64 {multi[1]}"
    assert "does not support it" in sampan.fails(1, "delete", name).err
    assert "expected colon-separated" in sampan.fails(1, "delete", "look:1").err
    assert "hint" not in sampan.fails(1, "delete", f"docker://{registry.address}/nope:1").err
    assert "for an image at its registry" in sampan.fails(125, "inspect", "--raw", made).err


# ----------------------------------------------------------------------------------------------------- faults


class Stalling(FakeRegistry):
    """Reads the start of an upload, and no more of it until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.released = threading.Event(), threading.Event()
        self.stalls = True  # if not, the upload goes on where it was when it is released

    def _patch(self, handler: Any, repository: str, id: str) -> None:
        self.begun.set()
        self.released.wait(60)
        if self.stalls:
            handler.close_connection = True
        else:
            super()._patch(handler, repository, id)


def test_a_server_that_is_killed_in_a_push_leaves_nothing_and_the_next_push_goes_through(
    instance: Sampan, registry: Registry, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "big.tar", "w") as tar:
        add(tar, "big", os.urandom(20_000_000))
    instance("import", tmp_path / "big.tar", "big")
    stalling = Stalling()
    try:
        instance("tag", "big", f"{stalling.address}/big")
        before = len(instance.ours())
        push = instance.start("push", f"{stalling.address}/big")
        assert stalling.begun.wait(30)
        server = next(pid for pid, text in instance.ours() if "-m sampan.api.server" in text)
        os.kill(server, signal.SIGKILL)

        out, err = push.communicate(timeout=60)
    finally:
        stalling.released.set()
        stalling.end()
    assert push.returncode == 1, (out, err)
    assert b"lost the connection" in err
    instance("tag", "big", f"{registry.address}/big")
    assert instance("push", "-q", f"{registry.address}/big").line == f"{registry.address}/big:latest"
    assert instance.leftovers() == []
    wait_until(lambda: len(instance.ours()) <= before, what="no worker is left")


def test_an_image_that_is_removed_while_it_is_pushed_arrives_whole_and_is_gone_then(
    instance: Sampan, registry: Registry, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "big.tar", "w") as tar:
        add(tar, "big", os.urandom(20_000_000))
    instance("import", tmp_path / "big.tar", "big")
    (layer,) = instance.inspect("big")["RootFS"]["Layers"]
    stalling = Stalling()
    try:
        instance("tag", "big", f"{stalling.address}/big")
        push = instance.start("push", f"{stalling.address}/big")
        assert stalling.begun.wait(30)

        instance("rmi", "big", f"{stalling.address}/big")
        kept = instance.root / "layers" / layer.replace(":", "/")
        assert kept.exists()
        stalling.stalls = False
    finally:
        stalling.released.set()
        out, err = push.communicate(timeout=60)
        stalling.end()
    assert push.returncode == 0, (out, err)
    assert any(len(data) > 20_000_000 for _, data in stalling.documents.values())
    assert "big" not in instance("images").out
    wait_until(lambda: not kept.exists(), what="the layer is removed")


def test_a_reader_that_leaves_ends_its_save(instance: Sampan, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "big.tar", "w") as tar:
        add(tar, "big", os.urandom(20_000_000))
    instance("import", tmp_path / "big.tar", "big")
    before = len(instance.ours())

    save = instance.start("save", "big")
    assert save.stdout is not None
    assert len(save.stdout.read(100_000)) == 100_000
    save.stdout.close()
    _, err = save.communicate(timeout=30)
    assert (save.returncode, err) == (141, b"")
    wait_until(lambda: len(instance.ours()) <= before + 1, what="no worker is left")
    assert instance.leftovers() == []
    instance("save", "-o", tmp_path / "a.tar", "big")
    assert (tmp_path / "a.tar").stat().st_size > 20_000_000


def test_a_damaged_layer_is_never_in_an_archive(instance: Sampan, busybox_tar: Path, tmp_path: Path) -> None:
    instance("import", busybox_tar, "b")
    (layer,) = instance.inspect("b")["RootFS"]["Layers"]
    file = instance.root / "layers" / layer.replace(":", "/") / "diff/etc/passwd"
    file.write_text(file.read_text().replace("root", "toor", 1))
    (tmp_path / "a.tar").write_text("precious")

    for words in (
        ("save", "-o", tmp_path / "a.tar", "b"),
        ("save", "--format", "oci-archive", "-o", tmp_path / "a.tar", "b"),
    ):
        assert instance(*words, check=False).code != 0
        assert (tmp_path / "a.tar").read_text() == "precious"
    said = instance.fails(1, "copy", "store:b", f"docker-archive:{tmp_path}/a.tar").err
    assert layer in said
    assert os.listdir(tmp_path) == ["a.tar"]


def test_a_client_that_leaves_ends_its_push(instance: Sampan, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "big.tar", "w") as tar:
        add(tar, "big", os.urandom(20_000_000))
    instance("import", tmp_path / "big.tar", "big")
    stalling = Stalling()
    try:
        instance("tag", "big", f"{stalling.address}/big")
        push = instance.start("push", f"{stalling.address}/big")
        assert stalling.begun.wait(30)
        push.kill()
        push.communicate()
    finally:
        stalling.released.set()
        stalling.end()
    assert instance.leftovers() == []
