"""What other programs write: skopeo, umoci, podman and Debian's docker-registry."""

import os
import shutil
import subprocess
import tempfile

import pytest

from sampan import dirs
from sampan.image import archive
from sampan.image.pull import Puller
from sampan.image.unpack import unpack_layer
from sampan.spec.reference import Reference
from support.image_store import opened, silent, wait_until_synced
from support.registry import Registry
from support.repositories import Repository

pytestmark = pytest.mark.skipif(
    not (shutil.which("skopeo") and shutil.which("umoci")), reason="skopeo and umoci are not installed"
)


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


def run(*words, **options):
    subprocess.run([str(word) for word in words], check=True, timeout=120, stdout=subprocess.DEVNULL, **options)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """An OCI layout that umoci made: an image of two layers, the upper one with a whiteout, links and attributes."""
    base = tmp_path_factory.mktemp("layout")
    run("umoci", "init", "--layout", base / "oci")
    run("umoci", "new", "--image", f"{base}/oci:v1")
    run("umoci", "unpack", "--image", f"{base}/oci:v1", base / "one")
    root = base / "one/rootfs"
    (root / "bin").mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    os.link(root / "bin/busybox", root / "bin/sh")
    (root / "etc").mkdir()
    (root / "etc/gone").write_text("gone")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    run("umoci", "repack", "--image", f"{base}/oci:v1", base / "one")
    run("umoci", "unpack", "--image", f"{base}/oci:v1", base / "two")
    root = base / "two/rootfs"
    (root / "etc/gone").unlink()
    (root / "etc/new").write_text("new")
    os.setxattr(root / "etc/new", "user.note", b"kept")
    os.chown(root / "etc/new", 70_000, 80_000)
    (root / "etc/link").symlink_to("/etc/new")
    run("umoci", "repack", "--image", f"{base}/oci:v1", base / "two")
    run("umoci", "config", "--image", f"{base}/oci:v1", "--config.cmd", "/bin/sh", "--config.env", "A=b")
    return f"oci:{base}/oci:v1"


def check(images, where, name):
    image = images.resolve(name)
    lower, upper = (f"{where.layer(diff_id)}/diff" for diff_id in image.diff_ids)
    assert os.lstat(f"{lower}/bin/sh").st_ino == os.lstat(f"{lower}/bin/busybox").st_ino
    status = os.lstat(f"{upper}/etc/new")
    assert (status.st_uid, status.st_gid) == (70_000, 80_000)
    assert os.getxattr(f"{upper}/etc/new", "user.note") == b"kept"
    assert os.lstat(f"{upper}/etc/gone").st_rdev == 0
    assert os.readlink(f"{upper}/etc/link") == "/etc/new"
    assert image.config.execution.cmd == ("/bin/sh",)
    assert image.config.execution.env is not None
    assert "A=b" in image.config.execution.env


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeos_archives_are_loaded(images, where, layout, tmp_path, kind):
    run("skopeo", "copy", "-q", "--insecure-policy", layout, f"{kind}:{tmp_path}/a.tar:app:1")

    with open(tmp_path / "a.tar", "rb") as file:
        assert archive.load(images, file, unpack=unpack_layer, progress=silent) == ["Loaded image: app:1"]
    check(images, where, "app:1")


@pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed")
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_podmans_archives_are_loaded(images, where, layout, tmp_path, kind):
    with tempfile.TemporaryDirectory(prefix="p-") as short:  # podman's own limit is 50 characters
        storage = f"[vfs@{short}/p+{short}/r]"
        podman = ("podman", "--root", f"{short}/p", "--runroot", f"{short}/r", "--storage-driver", "vfs")
        run("skopeo", "copy", "-q", "--insecure-policy", layout, f"containers-storage:{storage}docker.io/library/app:1")
        run(*podman, "save", "-q", "--format", kind, "-o", tmp_path / "a.tar", "docker.io/library/app:1")

    with open(tmp_path / "a.tar", "rb") as file:
        (line,) = archive.load(images, file, unpack=unpack_layer, progress=silent)
    check(images, where, line.removeprefix("Loaded image: "))


@pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed")
@pytest.mark.parametrize(
    "options",
    [(), ("--format", "v2s2"), ("--dest-compress-format", "zstd"), ("--dest-decompress",)],
    ids=["oci gzip", "docker schema 2", "oci zstd", "plain"],
)
def test_images_are_pulled_from_debians_registry(images, where, layout, tmp_path, options):
    server = Registry(tmp_path)
    try:
        name = server.push(layout, "group/app:1", *options)

        reference = Reference.parse(name)
        image = Puller(images, Repository(reference), unpack=unpack_layer, progress=silent).pull(reference)
    finally:
        server.end()

    check(images, where, image.id)
    assert image.repo_tags == (name,)
