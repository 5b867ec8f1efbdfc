"""Images: import, load, pull from a real registry, tag, rmi, inspect, history, and what a hostile one can't do."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from support.images import add, busybox_tar as make_tar
from support.registry import Registry
from support.sampan import Sampan


def test_import_takes_all_forms(sampan: Sampan, busybox_tar: Path, tmp_path: Path) -> None:
    data = busybox_tar.read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(data, 1))
    (tmp_path / "a.tar.zst").write_bytes(zstandard.compress(data))
    (tmp_path / "root").mkdir()
    subprocess.run(["tar", "-xf", busybox_tar, "-C", tmp_path / "root"], check=True)

    sources = [busybox_tar, tmp_path / "a.tar.gz", tmp_path / "a.tar.zst", tmp_path / "root"]
    ids = [sampan("import", source, f"try:{number}").line for number, source in enumerate(sources)]
    ids.append(sampan("import", "-", "try:4", input=data).line)

    assert all(id.startswith("sha256:") for id in ids)
    for number in range(5):
        assert sampan("run", "--rm", f"try:{number}", "echo", "ok").line == "ok"


def test_import_applies_changes(sampan: Sampan, busybox_tar: Path) -> None:
    changes = ["ENV A=b", "WORKDIR /tmp", 'CMD ["sh", "-c", "echo $A $PWD"]', "USER user"]
    flags = [word for change in changes for word in ("-c", change)]
    sampan("import", *flags, "-m", "made by hand", busybox_tar, "changed")

    assert sampan("run", "--rm", "changed").line == "b /tmp"
    assert "made by hand" in sampan("history", "changed").out


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> dict[str, Path]:
    """Make the same image with two layers as an OCI layout, a docker-archive and an oci-archive, with skopeo."""
    base = tmp_path_factory.mktemp("archives")
    second = base / "second.tar"
    with tarfile.open(second, "w") as tar:
        add(tar, "etc/.wh.hostname")
        add(tar, "etc/added", b"by the second layer\n")
        add(tar, "home/user", type=tarfile.DIRTYPE, mode=0o755)
        add(tar, "home/user/.wh..wh..opq")
    made = {"oci": write_layout(base / "layout", [busybox_tar, second])}
    for kind in ("docker-archive", "oci-archive"):
        made[kind] = base / f"{kind}.tar"
        names = [f"oci:{made['oci']}:one", f"{kind}:{made[kind]}:two/layers:1"]
        subprocess.run(["skopeo", "copy", "-q", "--insecure-policy", *names], check=True)
    return made


def write_layout(directory: Path, layers: list[Path]) -> Path:
    """Write an OCI image layout with one image, tagged one."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    configuration = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Cmd": ["cat", "/etc/added"], "Env": ["PATH=/bin", "FROM=image"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(layer.read_bytes()).hexdigest() for layer in layers],
        },
        "history": [{"created_by": "1"}, {"created_by": "nothing", "empty_layer": True}, {"created_by": "2"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(configuration).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(layer.read_bytes(), 1), "layer.v1.tar+gzip") for layer in layers],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "one"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_load(sampan: Sampan, archives: dict[str, Path], kind: str) -> None:
    assert sampan("load", "-i", archives[kind]).line == "Loaded image: two/layers:1"

    assert sampan("run", "--rm", "two/layers:1").line == "by the second layer"
    listed = sampan("run", "--rm", "two/layers:1", "ls", "/etc").lines
    assert {"added", "group", "passwd"} <= set(listed)
    assert sampan("run", "--rm", "two/layers:1", "ls", "/home/user").out == ""
    assert sampan("history", "--format", "{{.CreatedBy}}", "two/layers:1").lines == ["2", "nothing", "1"]
    sampan("rmi", "two/layers:1")


FORMATS = {
    "oci": ["--format=oci"],
    "schema 2": ["--format=v2s2"],
    "zstd": ["--format=oci", "--dest-compress-format=zstd"],
}


def test_load_from_standard_input(sampan: Sampan, archives: dict[str, Path]) -> None:
    assert sampan("load", input=archives["docker-archive"].read_bytes()).line == "Loaded image: two/layers:1"
    sampan("rmi", "two/layers:1")


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_pull(sampan: Sampan, registry: Registry, archives: dict[str, Path], options: list[str]) -> None:
    reference = registry.push(f"oci:{archives['oci']}:one", "some/image:1", *options)

    said = sampan("pull", reference)

    assert "Status: Downloaded newer image for" in said.out
    assert "Digest: sha256:" in said.out
    assert said.lines[-1] == reference
    assert "Status: Image is up to date for" in sampan("pull", reference).out
    assert sampan("run", "--rm", reference).line == "by the second layer"
    sampan("rmi", reference)


def test_run_pulls_what_is_missing_also_by_digest(
    sampan: Sampan, registry: Registry, archives: dict[str, Path]
) -> None:
    reference = registry.push(f"oci:{archives['oci']}:one", "another:2")
    repository = reference.rpartition(":")[0]
    said = sampan("run", "--rm", reference)

    assert said.line == "by the second layer"
    assert f"Unable to find image '{reference}' locally" in said.err
    (digest,) = sampan("images", "--digests", "--format", "{{.Digest}}", repository).lines
    by_digest = f"{repository}@{digest}"
    sampan("rmi", reference)
    assert sampan("pull", "-q", by_digest).line == by_digest
    assert sampan("run", "--rm", by_digest).line == "by the second layer"
    sampan("rmi", by_digest)


def test_images_tag_rmi_and_inspect(sampan: Sampan, busybox_tar: Path) -> None:
    sampan("tag", "busybox", "mine/box:7")
    listed = sampan("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").lines
    (found,) = sampan.json("inspect", "mine/box:7")

    assert f"mine/box:7 {found['Id'].removeprefix('sha256:')[:12]}" in listed
    assert set(found["RepoTags"]) >= {"busybox:latest", "mine/box:7"}
    assert sampan("images").lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert sampan("rmi", "mine/box:7").lines == ["Untagged: mine/box:7"]
    assert "No such image: mine/box:7" in sampan.fails(1, "rmi", "mine/box:7").err


def test_an_image_in_use_is_not_removed(sampan: Sampan, busybox_tar: Path) -> None:
    sampan("import", busybox_tar, "used:1")
    sampan("run", "-d", "--name", "web", "used:1", "sleep", "100")

    said = sampan.fails(1, "rmi", "used:1")

    assert "conflict" in said.err
    sampan("rm", "-f", "web")
    assert sampan("rmi", "used:1").lines[0] == "Untagged: used:1"


def test_a_removed_image_gives_its_space_back(instance: Sampan, tmp_path: Path) -> None:
    instance("import", make_tar(tmp_path / "a.tar"), "one:1")
    instance("tag", "one:1", "two:1")
    layers = instance.root / "layers/sha256"
    assert len(list(layers.iterdir())) == 1

    instance("rmi", "one:1")
    assert len(list(layers.iterdir())) == 1
    instance("rmi", "two:1")

    assert not list(layers.iterdir())


def tar_with(path: Path, *members: tuple[str, dict[str, object]], content: bytes = b"") -> Path:
    with tarfile.open(path, "w") as tar:
        for name, fields in members:
            add(tar, name, content if fields.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else b"", **fields)
    return path


HOSTILE = {
    "dot dot": [("../../../../tmp/sampan-escape", {})],
    "absolute": [("/../tmp/sampan-escape", {})],
    "through a link": [("out", {"type": tarfile.SYMTYPE, "linkname": "/tmp"}), ("out/sampan-escape", {})],
    "through a link upwards": [
        ("out", {"type": tarfile.SYMTYPE, "linkname": "../../../../../../tmp"}),
        ("out/sampan-escape", {}),
    ],
    "hard link outwards": [("shadow", {"type": tarfile.LNKTYPE, "linkname": "../../../../etc/shadow"})],
    "hard link by a link": [
        ("etc2", {"type": tarfile.SYMTYPE, "linkname": "/etc"}),
        ("shadow", {"type": tarfile.LNKTYPE, "linkname": "etc2/shadow"}),
    ],
    "whiteout of above": [(".wh...", {})],
    "overlay's own whiteout": [("gone", {"type": tarfile.CHRTYPE, "devmajor": 0, "devminor": 0})],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_layer_reaches_nothing_outside(sampan: Sampan, tmp_path: Path, name: str) -> None:
    shadow = os.stat("/etc/shadow")
    tar = tar_with(tmp_path / "evil.tar", *HOSTILE[name], content=b"escaped")

    said = sampan("import", tar, "evil", check=False)

    assert not os.path.exists("/tmp/sampan-escape")
    assert os.stat("/etc/shadow").st_nlink == shadow.st_nlink
    assert "Traceback" not in said.err
    assert not list((sampan.root / "tmp").iterdir())
    if said.code == 0:
        sampan("rmi", "evil")


BROKEN = {
    "not a tar": b"this is no archive at all" * 100,
    "nothing": b"",
    "cut off": None,
    "gzip cut off": None,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_archive_is_refused(sampan: Sampan, busybox_tar: Path, tmp_path: Path, name: str) -> None:
    data = BROKEN[name]
    if data is None:
        whole = busybox_tar.read_bytes()
        data = gzip.compress(whole)[:-200000] if "gzip" in name else whole[: len(whole) // 2]
    (tmp_path / "bad.tar").write_bytes(data)
    before = sampan("images", "-aq").out

    said = sampan.fails(1, "import", tmp_path / "bad.tar", "bad")

    assert said.err
    assert sampan("images", "-aq").out == before
    assert not list((sampan.root / "tmp").iterdir())


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_a_changed_byte_is_noticed(instance: Sampan, archives: dict[str, Path], tmp_path: Path, kind: str) -> None:
    with tarfile.open(archives[kind]) as source, tarfile.open(tmp_path / "bad.tar", "w") as target:
        for member in source:
            data = source.extractfile(member).read() if member.isfile() else b""  # type: ignore[union-attr]
            if member.size > 100_000:
                middle = len(data) // 2
                data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            target.addfile(member, io.BytesIO(data))

    said = instance.fails(1, "load", "-i", tmp_path / "bad.tar")

    assert "layer" in said.err
    assert not list((instance.root / "tmp").iterdir())
    assert not list((instance.root / "layers").rglob("diff"))
