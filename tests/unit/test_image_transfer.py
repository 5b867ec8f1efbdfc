"""Copies between places that are files and directories; what is refused, and what a failure leaves."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading

import pytest

from sampan.errors import Conflict, Failed, InvalidInput, NotFound, SampanError, Unsupported
from sampan.image import archive_read, compression
from sampan.image.archive_write import ArchiveWriter
from sampan.image.directory import Directory
from sampan.image.layout import Layout
from sampan.image.manifest import Document, Format, image_manifest, layer_type
from sampan.image.transfer import Checked, Choice, copy
from sampan.kernel.newfile import new_file
from sampan.spec.distribution import Descriptor, MediaType, Platform
from sampan.spec.location import Location, Transport
from sampan.spec.reference import Reference
from support.layouts import HandMade, Out, packed, platforms, sha256, two_layers


def silent(_):
    return None


@pytest.fixture
def layout(tmp_path):
    return HandMade(tmp_path / "source")


def files_of(directory):
    return {
        f"{os.path.relpath(where, directory)}/{name}": os.stat(f"{where}/{name}").st_size
        for where, _, names in os.walk(directory)
        for name in names
    }


# ----------------------------------------------------------------------------------------------------- locations


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("docker://debian:12", Location(Transport.REGISTRY, name="debian:12")),
        ("oci:/a/b:1.0", Location(Transport.LAYOUT, "/a/b", "1.0")),
        ("oci:a", Location(Transport.LAYOUT, "a")),
        ("oci-archive:/a.tar:docker.io/x:1", Location(Transport.OCI_ARCHIVE, "/a.tar", "docker.io/x:1")),
        ("docker-archive:a.tar:x:1", Location(Transport.DOCKER_ARCHIVE, "a.tar", "x:1")),
        ("dir:/with:colon", Location(Transport.DIRECTORY, "/with:colon")),
        ("store:debian", Location(Transport.STORE, name="debian")),
        ("containers-storage:debian:12", Location(Transport.STORE, name="debian:12")),
        ("docker-daemon:debian:12", Location(Transport.STORE, name="debian:12")),
    ],
)
def test_places_are_written_as_skopeo_writes_them(text, location):
    assert Location.parse(text) == location


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("debian", "expected colon-separated transport:reference"),
        ("debian:12", 'unknown transport "debian"'),
        ("docker:debian", "does not start with //"),
        ("docker://", "nothing is named"),
        ("dir:", "nothing is named"),
        ("oci::x", "nothing is named"),
        ("oci:a\0b", "nothing is named"),
        ("oci:a\udc80", "not in UTF-8"),
        ("ostree:x@/y", "unsupported"),
        ("containers-storage:[vfs@/x]a", "unsupported"),
        ("", "expected colon-separated"),
    ],
)
def test_what_is_no_place_is_refused(text, said):
    with pytest.raises(SampanError, match=said):
        Location.parse(text)


def test_paths_are_made_absolute_and_nothing_else_is():
    assert Location.parse("oci:../x:1").absolute("/a/b") == Location(Transport.LAYOUT, "/a/x", "1")
    assert Location.parse("docker://x").absolute("/a/b") == Location(Transport.REGISTRY, name="x")


# ----------------------------------------------------------------------------------------------------- manifests

BLOB = Descriptor(media_type=MediaType.OCI_LAYER_GZIP, digest="sha256:" + "a" * 64, size=5, annotations={"k": "v"})


def test_a_manifest_is_the_same_at_each_time_and_keeps_the_configuration():
    first, second = (image_manifest(b"{}", [BLOB], Format.OCI, {"b": "2", "a": "1"}) for _ in range(2))

    assert first == second
    document = json.loads(first.raw)
    assert document["config"]["digest"] == sha256(b"{}")
    assert list(document["annotations"]) == ["a", "b"]
    assert document["layers"][0]["annotations"] == {"k": "v"}


def test_dockers_manifest_has_dockers_types_and_no_annotations():
    document = json.loads(image_manifest(b"{}", [BLOB], Format.DOCKER).raw)

    assert document["mediaType"] == MediaType.DOCKER_MANIFEST
    assert document["config"]["mediaType"] == MediaType.DOCKER_CONFIG
    assert document["layers"] == [{"mediaType": MediaType.DOCKER_LAYER_GZIP, "digest": BLOB.digest, "size": 5}]
    with pytest.raises(InvalidInput, match="no annotations"):
        image_manifest(b"{}", [BLOB], Format.DOCKER, {"a": "b"})


def test_zstd_is_for_oci_only():
    assert layer_type(Format.OCI, "zstd") == MediaType.OCI_LAYER_ZSTD
    with pytest.raises(InvalidInput, match="zstd"):
        layer_type(Format.DOCKER, "zstd")


@pytest.mark.parametrize(("text", "format"), [("", None), ("oci", "oci"), ("v2s2", "docker"), ("docker", "docker")])
def test_formats_have_podmans_names(text, format):
    assert Format.parse(text) == format


def test_formats_of_the_past_and_unknown_ones_are_refused():
    with pytest.raises(Unsupported):
        Format.parse("v2s1")
    with pytest.raises(InvalidInput):
        Format.parse("tar")


# ----------------------------------------------------------------------------------------------------- checking


def opener(data, size=3):
    return lambda at: (data[i : i + size] for i in range(at, len(data), size))


def test_right_bytes_pass_also_when_a_part_is_read_again():
    checked = Checked(opener(b"0123456789"), sha256(b"0123456789"), 10)
    beginning = checked.open(0)
    assert next(beginning) + next(beginning) == b"012345"

    assert b"".join(checked.open(4)) == b"456789"
    assert b"".join(checked.open(10)) == b""


def test_what_was_never_read_is_read_before_it_is_gone_on_after_it():
    checked = Checked(opener(b"0123456789"), sha256(b"0123456789"), 10)

    assert b"".join(checked.open(8)) == b"89"


@pytest.mark.parametrize(
    ("data", "size", "error"),
    [
        (b"012345678X", 10, InvalidInput),
        (b"01234567890", 10, InvalidInput),
        (b"012", 10, Failed),
        (b"x", 0, InvalidInput),
    ],
)
def test_wrong_bytes_are_found_before_the_last_ones_are_given(data, size, error):
    given = []

    with pytest.raises(error):
        given.extend(Checked(opener(data), sha256(b"0123456789"), size).open(0))
    assert len(b"".join(given)) < 10


def test_an_empty_blob_is_checked_too():
    assert list(Checked(opener(b""), sha256(b""), 0).open(0)) == []
    with pytest.raises(InvalidInput):
        list(Checked(opener(b""), sha256(b"x"), 0).open(0))


# ----------------------------------------------------------------------------------------------------- new files


def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail():
        with new_file(f"{tmp_path}/a") as new:
            new.file.write(b"new")
            raise Failed("no")

    with pytest.raises(Failed):
        fail()
    assert files_of(tmp_path) == {"./a": 3}
    assert (tmp_path / "a").read_text() == "old"


def test_a_file_takes_the_place_of_what_was_there_a_link_too(tmp_path):
    (tmp_path / "target").write_text("target")
    (tmp_path / "a").symlink_to("target")

    with new_file(f"{tmp_path}/a") as new:
        new.file.write(b"new")
        assert sorted(os.listdir(tmp_path)) == ["a", "target"]

    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "target").read_text() == "target"
    assert sorted(os.listdir(tmp_path)) == ["a", "target"]


# ----------------------------------------------------------------------------------------------------- layouts


def test_an_index_is_copied_whole_with_its_digest(layout, tmp_path):
    digest = platforms(layout, "v1")

    copied = copy(Layout.opened(str(layout.path), "v1"), Layout.made(f"{tmp_path}/t", "x"), Choice(), silent)

    assert copied.document.digest == copied.before == digest
    assert {name for name in files_of(tmp_path / "t") if "blobs" in name} == {
        name for name in files_of(layout.path) if "blobs" in name
    }
    assert Layout.opened(f"{tmp_path}/t", "x").document().raw == Layout.opened(str(layout.path)).document().raw


@pytest.mark.parametrize("wrong", [{"size": 7}, {"mediaType": MediaType.DOCKER_MANIFEST}])
def test_an_index_that_is_wrong_about_its_manifest_is_refused_not_mended(layout, tmp_path, wrong):
    layout.name(layout.index({**layout.image(two_layers()[0]), **wrong}))

    with pytest.raises(InvalidInput, match=r"can't (use|copy) manifest sha256:.*: it (has .* should have 7|is )"):
        copy(Layout.opened(str(layout.path)), Layout.made(f"{tmp_path}/t"), Choice(), silent)

    with pytest.raises(NotFound, match="there are 0 images"):
        Layout.opened(f"{tmp_path}/t").document()


def test_one_platform_of_an_index_is_copied_alone(layout, tmp_path):
    platforms(layout)
    choice = Choice(platform=Platform.parse("linux/arm64"))

    copied = copy(Layout.opened(str(layout.path)), Layout.made(f"{tmp_path}/t"), choice, silent)

    view = Layout.opened(f"{tmp_path}/t").document().view()
    assert copied.document.media_type == MediaType.OCI_MANIFEST
    assert len(view.layers) == 1
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x"):
        copy(
            Layout.opened(str(layout.path)),
            Layout.made(f"{tmp_path}/t"),
            Choice(platform=Platform.parse("linux/s390x")),
            silent,
        )


def test_a_copy_in_another_format_has_other_digests_and_the_same_image(layout, tmp_path):
    digest = platforms(layout)

    copied = copy(
        Layout.opened(str(layout.path)), Directory.made(f"{tmp_path}/t"), Choice(format=Format.DOCKER), silent
    )

    assert copied.document.media_type == MediaType.DOCKER_LIST
    assert copied.document.digest != digest
    before = Layout.opened(str(layout.path))
    after = Directory.opened(f"{tmp_path}/t")
    for old, new in zip(before.document().view().manifests, after.document().view().manifests, strict=True):
        assert new.media_type == MediaType.DOCKER_MANIFEST
        assert new.platform == old.platform
        was, now = before.document(old.digest).view(), after.document(new.digest).view()
        assert now.config.digest == was.config.digest
        assert [layer.digest for layer in now.layers] == [layer.digest for layer in was.layers]


def test_a_name_goes_over_to_the_new_image_and_others_stay(layout, tmp_path):
    lower, upper = two_layers()
    layout.name(layout.image(lower), "1")
    layout.name(layout.image(upper), "2")
    target = f"{tmp_path}/t"

    for source, name in (("1", "a"), ("2", "b"), ("2", "a")):
        copy(Layout.opened(str(layout.path), source), Layout.made(target, name), Choice(), silent)

    assert Layout.opened(target, "a").document() == Layout.opened(target, "b").document()
    assert len(json.loads((tmp_path / "t/index.json").read_text())["manifests"]) == 2
    with pytest.raises(NotFound) as caught:
        Layout.opened(target, "c").document()
    assert "a, b" in str(caught.value.hint) or "b, a" in str(caught.value.hint)
    with pytest.raises(NotFound, match="2 images"):
        Layout.opened(target).document()
    assert Layout.opened(target, "@1").document()


def test_many_may_write_to_one_layout_at_a_time(layout, tmp_path):
    layout.name(layout.image(*two_layers()))
    target = f"{tmp_path}/t"
    writers = [
        threading.Thread(
            target=copy, args=(Layout.opened(str(layout.path)), Layout.made(target, f"n{number}"), Choice(), silent)
        )
        for number in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    names = {
        entry["annotations"]["org.opencontainers.image.ref.name"]
        for entry in json.loads((tmp_path / "t/index.json").read_text())["manifests"]
    }
    assert names == {f"n{number}" for number in range(8)}


def test_other_directories_are_not_made_into_layouts(tmp_path):
    (tmp_path / "mine").write_text("mine")

    with pytest.raises(Conflict, match="not empty"):
        Layout.made(str(tmp_path))
    with pytest.raises(Conflict, match="not empty"):
        Directory.made(str(tmp_path))
    with pytest.raises(NotFound, match="no file oci-layout"):
        Layout.opened(str(tmp_path))
    with pytest.raises(NotFound, match=r"no manifest\.json"):
        Directory.opened(str(tmp_path))
    assert os.listdir(tmp_path) == ["mine"]


def spoil(layout, kind):
    """Break the layout's only image in one way."""
    entry = json.loads((layout.path / "index.json").read_text())["manifests"][0]
    manifest = layout.path / "blobs" / entry["digest"].replace(":", "/")
    layer = layout.path / "blobs" / json.loads(manifest.read_text())["layers"][0]["digest"].replace(":", "/")
    match kind:
        case "damaged layer":
            layer.write_bytes(bytes(layer.stat().st_size))
        case "short layer":
            layer.write_bytes(layer.read_bytes()[:-1])
        case "long layer":
            layer.write_bytes(layer.read_bytes() + b"x")
        case "no layer":
            layer.unlink()
        case "a FIFO":
            layer.unlink()
            os.mkfifo(layer)
        case "damaged manifest":
            manifest.write_text(manifest.read_text() + " ")
        case "a secret's link":
            layer.unlink()
            layer.symlink_to("/etc/passwd")
        case "huge index":
            (layout.path / "index.json").write_bytes(b" " * (9 << 20))
        case "no index":
            (layout.path / "index.json").write_text('{"schemaVersion":2,"layers":[],"config":{}}')
        case "other version":
            (layout.path / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
        case "bad digest":
            text = (layout.path / "index.json").read_text().replace(entry["digest"], "sha256:../../../etc/passwd")
            (layout.path / "index.json").write_text(text)


SPOILT = (
    "damaged layer", "short layer", "long layer", "no layer", "a FIFO", "damaged manifest", "a secret's link",
    "huge index", "no index", "other version", "bad digest",
)  # fmt: skip


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("sink", ["layout", "directory"])
def test_a_spoilt_source_is_one_error_and_the_target_keeps_its_image(layout, tmp_path, kind, sink):
    layout.name(layout.image(two_layers()[0]))
    make = Layout.made if sink == "layout" else Directory.made
    opened = Layout.opened if sink == "layout" else Directory.opened
    good = HandMade(tmp_path / "good")
    good.name(good.image(two_layers()[1]))
    copy(Layout.opened(f"{tmp_path}/good"), make(f"{tmp_path}/t"), Choice(), silent)
    before = opened(f"{tmp_path}/t").document()
    spoil(layout, kind)

    with pytest.raises(SampanError):
        copy(Layout.opened(str(layout.path)), make(f"{tmp_path}/t"), Choice(), silent)
    assert opened(f"{tmp_path}/t").document() == before
    wrong = [
        name
        for name in files_of(tmp_path / "t")
        if len(base := os.path.basename(name)) == 64
        and hashlib.sha256((tmp_path / "t" / name).read_bytes()).hexdigest() != base
    ]
    assert wrong == []
    assert [name for name in files_of(tmp_path / "t") if "/." in name] == []


def test_a_directory_has_its_new_image_only(layout, tmp_path):
    lower, upper = two_layers()
    layout.name(layout.image(lower), "1")
    layout.name(layout.image(upper), "2")
    (tmp_path / "t").mkdir()
    copy(Layout.opened(str(layout.path), "1"), Directory.made(f"{tmp_path}/t"), Choice(), silent)
    (tmp_path / "t/README").write_text("not ours")

    copy(Layout.opened(str(layout.path), "2"), Directory.made(f"{tmp_path}/t"), Choice(), silent)

    assert len(os.listdir(tmp_path / "t")) == 5  # README, version, manifest.json, a configuration, a layer
    assert (tmp_path / "t" / sha256(packed(upper))[7:]).exists()


# ----------------------------------------------------------------------------------------------------- archives


def opened_archive(tmp_path, kind, name, file="a.tar"):
    return archive_read.opened(Location(Transport(kind), f"{tmp_path}/{file}", name), str(tmp_path))


def archive(tmp_path, layout, images, *, docker):
    out = Out()
    writer = ArchiveWriter(out, docker=docker, scratch=str(tmp_path))
    for name, references in images.items():
        sink = writer.image([Reference.parse(text) for text in references])
        copy(Layout.opened(str(layout.path), name), sink, Choice(), silent)
    writer.close()
    return out.getvalue()


def test_an_archive_has_each_blob_once_and_is_the_same_at_each_time(layout, tmp_path):
    lower, upper = two_layers()
    layout.name(layout.image(lower), "1")
    layout.name(layout.image(lower, upper), "2")
    images = {"1": ["app:1", "host.example/b:x"], "2": ["app:2"]}

    first, second = (archive(tmp_path, layout, images, docker=True) for _ in range(2))

    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        names = tar.getnames()
        items = json.load(tar.extractfile("manifest.json"))
        repositories = json.load(tar.extractfile("repositories"))
    assert len(names) == len(set(names)) == 2 + 2 + 2 + 4
    assert [item["RepoTags"] for item in items] == [["app:1", "host.example/b:x"], ["app:2"]]
    assert set(repositories) == {"app", "host.example/b"}
    assert set(repositories["app"]) == {"1", "2"}


def test_images_of_an_archive_are_read_by_reference_and_by_place(layout, tmp_path):
    lower, upper = two_layers()
    layout.name(layout.image(lower), "1")
    layout.name(layout.image(lower, upper), "2")
    (tmp_path / "a.tar").write_bytes(archive(tmp_path, layout, {"1": ["app:1"], "2": ["app:2"]}, docker=True))

    for name, layers in (("app:1", 1), ("docker.io/library/app:2", 2), ("@1", 2)):
        with opened_archive(tmp_path, "docker-archive", name) as source:
            copied = copy(source, Layout.made(f"{tmp_path}/t", "x"), Choice(), silent)
        assert len(copied.document.view().layers) == layers
    with opened_archive(tmp_path, "oci-archive", "2") as source:
        assert source.document() == Layout.opened(str(layout.path), "2").document()
    with pytest.raises(NotFound) as caught:
        opened_archive(tmp_path, "docker-archive", "").__enter__()
    assert "app:1, app:2" in caught.value.hint


def test_a_docker_archive_takes_no_index_so_it_gets_this_machines_image(layout, tmp_path):
    platforms(layout, "1")

    (tmp_path / "a.tar").write_bytes(archive(tmp_path, layout, {"1": ["app:1"]}, docker=True))

    with opened_archive(tmp_path, "docker-archive", "") as source:
        assert isinstance(source.document(), Document)
    assert archive(tmp_path, layout, {"1": ["app:1"]}, docker=False) != b""


@pytest.mark.parametrize("compress", ["gz", "xz"])
def test_compressed_archives_are_read(layout, tmp_path, compress):
    digest = layout.name(layout.image(*two_layers()))
    with tarfile.open(tmp_path / "a", f"w:{compress}") as tar:
        tar.add(layout.path, arcname=".")

    with opened_archive(tmp_path, "oci-archive", "", "a") as source:
        assert copy(source, Layout.made(f"{tmp_path}/t"), Choice(), silent).document.digest == digest


def test_an_archive_that_is_a_bomb_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "NO_BOMB_BYTES", 1 << 20)
    (tmp_path / "bomb").write_bytes(gzip.compress(bytes(8 << 20)))

    with (
        pytest.raises(InvalidInput, match="decompression bomb") as caught,
        archive_read.opened(Location(Transport.OCI_ARCHIVE, f"{tmp_path}/bomb"), str(tmp_path)),
    ):
        pass

    assert "max-compression-ratio" in caught.value.hint
    assert os.listdir(tmp_path) == ["bomb"]


def test_a_layer_that_is_a_bomb_is_not_compressed_anew(layout, tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "NO_BOMB_BYTES", 1 << 20)
    layout.name(layout.image(bytes(8 << 20)))
    choice = Choice(compression=compression.Compression("zstd"), force=True)

    with pytest.raises(InvalidInput, match="decompression bomb"):
        copy(Layout.opened(str(layout.path)), Layout.made(f"{tmp_path}/t"), choice, silent)


def test_links_in_an_archive_lead_to_its_own_members_only(layout, tmp_path):
    layout.name(layout.image(two_layers()[0]))
    data = archive(tmp_path, layout, {"": ["app:1"]}, docker=True)
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            if member.name == "manifest.json":
                items = json.load(old.extractfile(member))
                items[0]["Layers"] = ["l/layer.tar"]
                text = json.dumps(items).encode()
                member.size = len(text)
                new.addfile(member, io.BytesIO(text))
            else:
                new.addfile(member, old.extractfile(member))
        link = tarfile.TarInfo("l/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../../../../etc/passwd"
        new.addfile(link)
    (tmp_path / "a.tar").write_bytes(out.getvalue())

    with pytest.raises(InvalidInput, match="has no etc/passwd"):
        opened_archive(tmp_path, "docker-archive", "").__enter__()


def test_an_archive_cut_anywhere_is_refused(layout, tmp_path):
    layout.name(layout.image(*two_layers()))
    data = archive(tmp_path, layout, {"": ["app:1"]}, docker=True)
    end = len(data) - 1024

    for cut in range(0, end, 997):
        (tmp_path / "a.tar").write_bytes(data[:cut])
        with pytest.raises(SampanError):
            opened_archive(tmp_path, "docker-archive", "").__enter__()


def test_a_blob_whose_size_is_not_known_is_written_too_and_a_wrong_one_refused(tmp_path):
    out = Out()
    writer = ArchiveWriter(out, docker=False, scratch=str(tmp_path))

    made = writer.image().put_blob(opener(b"0123456789"), None, None)

    assert (made.digest, made.size) == (sha256(b"0123456789"), 10)
    assert os.listdir(tmp_path) == []
    with pytest.raises(Failed):
        writer.image().put_blob(opener(b"x"), sha256(b"x"), 2)
    out.getvalue()
