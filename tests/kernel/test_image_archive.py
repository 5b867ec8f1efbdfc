"""Archives, as their writers lay them out."""

import gzip
import io
import json
import lzma
import os
import tarfile

import pytest
import zstandard

from sampan import dirs
from sampan.errors import InvalidInput, NotFound
from sampan.image import archive, compression
from sampan.image.history import history
from sampan.image.unpack import unpack_layer
from sampan.spec.distribution import Platform
from support.fake_registry import packed
from support.image_store import layers_of, load, opened, sha256, silent, tarball, wait_until_synced


@pytest.fixture
def where(tmp_path):
    return dirs.find(str(tmp_path / "root"))


@pytest.fixture
def images(where):
    store = opened(where)
    yield store
    wait_until_synced(where)
    store.close()
    assert os.listdir(where.tmp) == []


OCI_TYPE = "application/vnd.oci.image.manifest.v1+json"
LAYER, UPPER = tarball(a=b"lower", b=b"x"), tarball(c=b"upper")
CONFIG = json.dumps(
    {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/a"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(LAYER)}", f"sha256:{sha256(UPPER)}"]},
        "history": [
            {"created_by": "base", "created": "2024-01-01T00:00:00Z"},
            {"created_by": "ENV x", "empty_layer": True},
            {"created_by": "RUN y", "comment": "c"},
        ],
    }
).encode()


def docker_manifest(*names, layers=("l1/layer.tar", "l2/layer.tar"), config=None):
    config = config or f"{sha256(CONFIG)}.json"
    return json.dumps([{"Config": config, "RepoTags": list(names) or None, "Layers": list(layers)}]).encode()


def old_docker_save():
    return {
        "l1/VERSION": b"1.0", "l1/json": b"{}", "l1/layer.tar": LAYER, "l2/layer.tar": UPPER,
        f"{sha256(CONFIG)}.json": CONFIG, "repositories": b"{}", "manifest.json": docker_manifest("app:1", "b/c:2"),
    }  # fmt: skip


def descriptor(data, media_type, **more):
    return {"mediaType": media_type, "digest": f"sha256:{sha256(data)}", "size": len(data), **more}


def oci_layout(compress=packed, name="docker.io/library/app:1", extra=()):
    layers = [compress(LAYER), compress(UPPER)]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor(CONFIG, "application/vnd.oci.image.config.v1+json"),
            "layers": [descriptor(data, "application/vnd.oci.image.layer.v1.tar+gzip") for data in layers],
        }
    ).encode()
    annotations = {"org.opencontainers.image.ref.name": name} if name else {}
    entry = descriptor(manifest, "application/vnd.oci.image.manifest.v1+json", annotations=annotations)
    index = {"schemaVersion": 2, "manifests": [entry, *extra]}
    blobs = {f"blobs/sha256/{sha256(data)}": data for data in (*layers, CONFIG, manifest)}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **blobs,
    }, manifest


def new_docker_save():
    layout, _ = oci_layout(bytes)
    paths = [f"blobs/sha256/{sha256(data)}" for data in (LAYER, UPPER)]
    manifest = docker_manifest("app:1", layers=paths, config=f"blobs/sha256/{sha256(CONFIG)}")
    return {**layout, "manifest.json": manifest}


ARCHIVES = {
    "old docker save": old_docker_save(),
    "new docker save": new_docker_save(),
    "oci archive": oci_layout()[0],
    "oci archive with zstd": oci_layout(zstandard.ZstdCompressor().compress)[0],
    "manifest first": dict(reversed(old_docker_save().items())),
}


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress])
def test_archives_of_every_kind_are_loaded(images, where, kind, compress):
    lines = load(images, compress(tarball(**ARCHIVES[kind])))

    assert lines[0] == "Loaded image: app:1"
    image = images.resolve("app:1")
    assert image.id == f"sha256:{sha256(CONFIG)}"
    assert image.raw_config == CONFIG
    assert image.size == 11
    assert os.path.exists(where.layer(image.diff_ids[1]) + "/diff/c")
    assert [(row.created_by, row.size) for row in history(image)] == [("RUN y", 5), ("ENV x", 0), ("base", 6)]


def test_loading_twice_unpacks_once(images):
    data = tarball(**ARCHIVES["new docker save"])
    load(images, data)
    calls = []

    def refuse(*arguments, **_):
        calls.append(arguments)
        raise AssertionError

    archive.load(images, io.BytesIO(data), unpack=refuse, progress=silent)

    assert calls == []


def test_an_archive_without_names_is_loaded_by_id(images):
    files = oci_layout(name="")[0]

    assert load(images, tarball(**files)) == [f"Loaded image ID: sha256:{sha256(CONFIG)}"]


def test_links_between_layers_are_followed(images):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in {f"{sha256(LAYER)}.tar": LAYER, f"{sha256(UPPER)}.tar": UPPER, "c.json": CONFIG}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for number, data in enumerate((LAYER, UPPER), 1):
            info = tarfile.TarInfo(f"l{number}/layer.tar")
            info.type, info.linkname = tarfile.SYMTYPE, f"../{sha256(data)}.tar"
            file.addfile(info)
        info = tarfile.TarInfo("manifest.json")
        manifest = docker_manifest("app:1", config="c.json")
        info.size = len(manifest)
        file.addfile(info, io.BytesIO(manifest))

    assert load(images, buffer.getvalue()) == ["Loaded image: app:1"]


def test_this_machines_image_is_chosen_from_an_index_in_the_archive(images):
    files, manifest = oci_layout(name="")
    entries = [
        descriptor(b"{}", OCI_TYPE, platform={"os": "linux", "architecture": "s390x"}),
        descriptor(
            manifest, OCI_TYPE,
            platform={"os": "linux", "architecture": os.uname().machine.replace("x86_64", "amd64")},
        ),
    ]  # fmt: skip
    nested = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    names = {"io.containerd.image.name": "docker.io/library/multi:1"}
    top = {
        "schemaVersion": 2,
        "manifests": [descriptor(nested, "application/vnd.oci.image.index.v1+json", annotations=names)],
    }
    files |= {"index.json": json.dumps(top).encode(), f"blobs/sha256/{sha256(nested)}": nested}

    assert load(images, tarball(**files)) == ["Loaded image: multi:1"]


def test_a_root_filesystem_is_told_from_an_image_at_once(images):
    files = {f"usr/share/doc/{number}.gz": gzip.compress(b"text") for number in range(500)}

    def refuse(*_, **__):
        raise AssertionError

    with pytest.raises(InvalidInput, match="neither") as caught:
        archive.load(images, io.BytesIO(tarball(**files)), unpack=refuse, progress=silent)
    assert "sampan import" in caught.value.hint


def test_members_and_documents_without_end_are_refused(images, monkeypatch):
    monkeypatch.setattr(archive, "_MOST_MEMBERS", 10)
    links = io.BytesIO()
    with tarfile.open(fileobj=links, mode="w") as file:
        for number in range(11):
            info = tarfile.TarInfo(f"l{number}")
            info.type, info.linkname = tarfile.SYMTYPE, "x"
            file.addfile(info)
    with pytest.raises(InvalidInput, match="too many members"):
        load(images, gzip.compress(links.getvalue()))

    monkeypatch.setattr(archive, "_ALL_DOCUMENTS", 9_000)
    documents = {f"{number}.json": b"{" + b" " * 999 for number in range(10)}
    with pytest.raises(InvalidInput, match="documents are too large"):
        load(images, tarball(**documents))


def test_an_archive_that_is_a_bomb_is_refused_though_its_layers_are_plain(images, monkeypatch):
    monkeypatch.setattr(compression, "NO_BOMB_BYTES", 1 << 20)
    bomb = tarball(**{"l1/layer.tar": tarball(zeros=bytes(8 << 20))})

    with pytest.raises(InvalidInput, match="decompression bomb"):
        load(images, gzip.compress(bomb))


def test_compressed_layers_of_docker_archives_are_loaded(images):
    files = {
        f"{sha256(LAYER)}.tar.gz": gzip.compress(LAYER, mtime=0),
        "u.tar.gz": gzip.compress(UPPER, mtime=0),
        "config": CONFIG,
        "manifest.json": docker_manifest("app:1", layers=(f"{sha256(LAYER)}.tar.gz", "u.tar.gz"), config="config"),
    }

    assert load(images, tarball(**files)) == ["Loaded image: app:1"]


def without(files, start):
    return {name: data for name, data in files.items() if not name.startswith(start)}


OCI, OCI_MANIFEST = oci_layout()
BAD_ARCHIVES = {
    "no manifest": ({"a": b"b"}, "neither a manifest.json nor an index.json"),
    "no configuration": (without(old_docker_save(), sha256(CONFIG)), "has no"),
    "no layer": (without(old_docker_save(), "l2"), "has no layer l2/layer.tar"),
    "layers swapped": (
        {**old_docker_save(), "manifest.json": docker_manifest("a", layers=("l2/layer.tar", "l1/layer.tar"))},
        "does not match",
    ),
    "a layer too few": (
        {**old_docker_save(), "manifest.json": docker_manifest("a", layers=("l1/layer.tar",))},
        "has 1 layers",
    ),
    "a broken layer": ({**old_docker_save(), "l2/layer.tar": UPPER[:700]}, "cut short"),
    "a hostile layer": ({**old_docker_save(), "l2/layer.tar": tarball(**{"../../evil": b""})}, "leads out"),
    "a bad name": ({**old_docker_save(), "manifest.json": docker_manifest("A B")}, "invalid reference format"),
    "a reserved name": ({**old_docker_save(), "manifest.json": docker_manifest("host:latest")}, "built-in"),
    "no json": ({**old_docker_save(), "manifest.json": b"[{]"}, "manifest.json"),
    "a missing blob": (without(OCI, f"blobs/sha256/{sha256(OCI_MANIFEST)}"), "has no blob"),
    "a blob that is not what its name says": (
        {**OCI, f"blobs/sha256/{sha256(OCI_MANIFEST)}": b"{}"},
        "is damaged",
    ),
    "a layer that is not what its name says": (
        {name: data if data[:2] != b"\x1f\x8b" else gzip.compress(UPPER, 1) for name, data in OCI.items()},
        "does not match",
    ),
    "an empty index": ({**OCI, "index.json": b'{"schemaVersion":2,"manifests":[]}'}, "names no image"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_ARCHIVES)
def test_bad_archives_are_one_clear_error_and_leave_nothing(images, where, kind):
    files, message = BAD_ARCHIVES[kind]

    with pytest.raises(InvalidInput, match=message):
        load(images, tarball(**files))

    assert layers_of(where) == set()
    assert [image for image in images.list() if not image.host] == []


def test_an_archive_that_is_cut_anywhere_leaves_nothing(images, where):
    data = tarball(**old_docker_save())

    for cut in range(0, len(data.rstrip(b"\0")), 1777):
        with pytest.raises(InvalidInput):
            load(images, data[:cut])
        assert layers_of(where) == set()


def dir_transport():
    """skopeo's `dir:` in a tar."""
    files, manifest = oci_layout()
    blobs = {name.rpartition("/")[2]: data for name, data in files.items() if name.startswith("blobs/")}
    del blobs[sha256(manifest)]
    return {"manifest.json": manifest, "version": b"Directory Transport Version: 1.1\n", **blobs}


def test_an_image_of_skopeos_directories_is_loaded_with_its_manifest(images):
    files = dir_transport()

    assert load(images, tarball(**files)) == [f"Loaded image ID: sha256:{sha256(CONFIG)}"]
    assert images.resolve(sha256(CONFIG)).manifest_digest == f"sha256:{sha256(files['manifest.json'])}"


def test_a_name_that_is_a_tag_only_names_nothing(images):
    files = oci_layout(name="1.0")[0]

    assert load(images, tarball(**files)) == [f"Loaded image ID: sha256:{sha256(CONFIG)}"]


@pytest.mark.parametrize("kind", ["new docker save", "oci archive"])
def test_an_image_for_another_platform_than_was_asked_for_is_refused(images, where, kind):
    data = tarball(**ARCHIVES[kind])

    with pytest.raises(NotFound, match="app:1 is for linux/amd64 and not for the specified platform: linux/arm64"):
        archive.load(
            images, io.BytesIO(data), unpack=unpack_layer, progress=silent, platform=Platform.parse("linux/arm64")
        )
    assert layers_of(where) == set()
    assert load(images, data) == ["Loaded image: app:1"]
