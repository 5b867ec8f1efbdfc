"""A layer's tar is written again bit for bit, however strange it was."""

import hashlib
import io
import itertools
import os
import subprocess
import tarfile

import pytest
from hypothesis import HealthCheck, event, given, settings

from sampan.errors import Failed, InvalidInput
from sampan.image.recipe import has_recipe, tar_of
from sampan.image.unpack import unpack_layer
from support import images, tars
from support.tars import archive, directory, hardlink, member, symlink

numbers = itertools.count()


def unpacked(base, data, name="layer"):
    path = base / f"{name}.tar"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        unpack_layer(fd, str(base / name), diff_id=f"sha256:{hashlib.sha256(data).hexdigest()}")
    finally:
        os.close(fd)
        path.unlink()
    return str(base / name)


def again(layer):
    return b"".join(tar_of(layer))


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=300)
@given(data=tars.archives)
def test_any_archive_that_is_accepted_is_written_again_bit_for_bit(tmp_path_factory, data):
    base = tmp_path_factory.getbasetemp()
    try:
        layer = unpacked(base, data, f"layer{next(numbers)}")
    except InvalidInput as e:
        event(f"refused: {str(e).partition(':')[0]}")
        return

    event("accepted")
    assert again(layer) == data


SEVERAL_TIMES = {
    "a file by a file": [member("a", b"first"), member("a", b"second")],
    "a file by a directory": [member("a", b"first"), directory("a"), member("a/x", b"x")],
    "a file by a link to itself, once": [member("a", b"first"), member("b", b"b"), hardlink("a", "b")],
    "a directory by a file": [member("d/e/a", b"first"), member("d/b", b"b"), member("d", b"second")],
    "a directory twice": [
        member("d/a", b"1"),
        member("d", b"2"),
        directory("d"),
        member("d/a", b"3"),
        member("d", b"4"),
    ],
    "a file, then its directory": [member("d/a", b"1"), member("d/a", b"2"), symlink("d", "e"), member("d/a", b"3")],
    "a file with another name": [member("a", b"first"), hardlink("b", "a"), member("a", b"second"), member("b", b"3")],
    "the other name of a file": [member("a", b"first"), hardlink("b", "a"), member("b", b"second")],
    "through a link": [
        directory("d"),
        symlink("l", "d"),
        member("l/a", b"1"),
        member("d/a", b"2"),
        member("l/a", b"3"),
    ],
}


@pytest.mark.parametrize("members", SEVERAL_TIMES.values(), ids=SEVERAL_TIMES)
def test_what_a_later_member_replaces_belongs_to_the_archive_too(tmp_path, members):
    data = archive(*members)

    assert again(unpacked(tmp_path, data)) == data


@pytest.mark.parametrize("form", tars.SPARSE_FORMS)
def test_sparse_files_with_long_maps(tmp_path, form):
    regions = [(number * 8192, b"%05d" % number) for number in range(500)]
    data = tars.sparse("file", regions, 10_000_000, form) + bytes(1024)

    layer = unpacked(tmp_path, data)

    assert again(layer) == data
    assert os.stat(f"{layer}/diff/file").st_size == 10_000_000


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_what_tar_writes_of_a_real_tree(tmp_path, form):
    options = ["--sparse", "--xattrs"] if form in {"gnu", "pax"} else []
    made = subprocess.run(
        [
            "tar",
            f"--format={form}",
            *options,
            "--exclude=*:*",
            "-C",
            "/usr/lib",
            "-c",
            "python3",
            "locale",
            "os-release",
        ],
        capture_output=True,
        check=False,
    )

    layer = unpacked(tmp_path, made.stdout)

    assert again(layer) == made.stdout
    assert os.path.getsize(f"{layer}/recipe") < len(made.stdout) / 10


def test_a_debian_and_a_busybox_as_skopeo_has_them(tmp_path):
    for number, root in enumerate((images.debian_tar(), images.busybox_tar(tmp_path / "busybox.tar"))):
        data = root.read_bytes()
        made = tmp_path / "archive.tar"
        docker_archive(made, data)
        subprocess.run(
            ["skopeo", "copy", "-q", f"docker-archive:{made}", f"dir:{tmp_path / 'dir'}{number}"], check=True
        )

        layer = unpacked(tmp_path, data, f"layer{number}")

        blobs = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / f"dir{number}").iterdir()}
        assert hashlib.sha256(again(layer)).hexdigest() in blobs


def docker_archive(path, layer):
    digest = hashlib.sha256(layer).hexdigest()
    config = (
        b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' % digest.encode()
    )
    with tarfile.open(path, "w") as file:
        for name, content in (
            ("layer.tar", layer),
            ("config.json", config),
            ("manifest.json", b'[{"Config":"config.json","RepoTags":["a:1"],"Layers":["layer.tar"]}]'),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def test_a_layer_that_was_changed_is_an_error_at_the_end(tmp_path):
    layer = unpacked(tmp_path, archive(member("a", b"content"), member("b", b"content")))
    with open(f"{layer}/diff/a", "r+b") as file:
        file.write(b"X")

    with pytest.raises(Failed, match=r"can't write the tar of layer sha256:.*: it is damaged"):
        again(layer)


@pytest.mark.parametrize("change", ["cut", "gone", "a link", "a directory", "a pipe", "a link above"])
def test_a_file_that_is_not_what_it_was_is_an_error_that_names_it(tmp_path, change):
    layer = unpacked(tmp_path, archive(member("d/a", b"content")))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a").write_bytes(b"content")
    path = f"{layer}/diff/d/a"
    match change:
        case "cut":
            os.truncate(path, 3)
        case "a link above":
            os.rename(f"{layer}/diff/d", f"{layer}/diff/e")
            os.symlink(tmp_path / "outside", f"{layer}/diff/d")
        case _:
            os.unlink(path)
            if change == "a link":
                os.symlink(tmp_path / "outside" / "a", path)
            elif change == "a directory":
                os.mkdir(path)
            elif change == "a pipe":
                os.mkfifo(path)

    with pytest.raises(Exception, match=r"can't write the tar of layer sha256:.*diff/d/a"):
        again(layer)


@pytest.mark.parametrize("change", ["gone", "cut", "damaged", "of another version"])
def test_a_recipe_that_is_not_whole_is_an_error_that_says_what_helps(tmp_path, change):
    layer = unpacked(tmp_path, archive(member("a", b"content"), member("b" * 90, os.urandom(900))))
    path = tmp_path / "layer" / "recipe"
    whole = path.read_bytes()
    path.unlink()
    match change:
        case "cut":
            path.write_bytes(whole[:-9])
        case "damaged":
            path.write_bytes(whole[:20] + b"\xff" * 20 + whole[40:])
        case "of another version":
            import zstandard

            path.write_bytes(zstandard.compress(b"sampan recipe 9\n"))

    with pytest.raises(Failed, match="can't write the tar of layer") as caught:
        again(layer)

    assert has_recipe(layer) == (change != "gone")
    assert caught.value.hint in {"pull or load its image again", "upgrade sampan"}
