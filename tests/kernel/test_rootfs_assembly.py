"""Random layers: what an overlay mount of them shows is what unpacking them one over another would have made."""

import os
import shutil
import stat
import traceback

import pytest
from hypothesis import HealthCheck, assume, given, settings

from sampan import dirs
from sampan.kernel import mount
from sampan.rootfs.overlay import MARKER
from sampan.rootfs.snapshots import Snapshots
from sampan.spec.image import Image, ImageConfig, Rootfs
from support import naive
from support.child import in_child
from support.image_store import layer_of, mount_overlay
from support.tars import archive, directory, member, symlink


def as_members(layer):
    """The layer's members as a tar has them."""
    for kind, path, detail in layer:
        name = "/".join(path)
        match kind:
            case "directory":
                mode, uid, gid = detail
                yield directory(name, mode=mode, uid=uid, gid=gid)
            case "file":
                yield member(name, detail.encode())
            case "link":
                yield symlink(name, detail)
            case "whiteout":
                yield member("/".join((*path, f".wh.{detail}")))
            case _:
                yield member("/".join((*path, ".wh..wh..opq")))


def shown(path):
    """All paths below, as `naive.flat` has them."""
    found = {}
    pending = [path]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                name = os.path.relpath(entry.path, path)
                if stat.S_ISDIR(status.st_mode):
                    found[name] = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
                    pending.append(entry.path)
                elif stat.S_ISLNK(status.st_mode):
                    found[name] = f"link {os.readlink(entry.path)}"
                elif stat.S_ISREG(status.st_mode):
                    with open(entry.path) as file:
                        found[name] = f"file {file.read()}"
                else:
                    found[name] = f"strange: {status.st_mode:o} {status.st_rdev}"
    return found


class Store:
    """A store at `root`, emptied after each stack of layers."""

    def __init__(self, root):
        self.dirs = dirs.find(root)
        os.makedirs(f"{self.dirs.layers}/sha256", exist_ok=True)
        os.makedirs(self.dirs.tmp, exist_ok=True)
        self.snapshots = Snapshots(self.dirs)

    def shows(self, layers):
        diff_ids = tuple(layer_of(self.dirs, archive(*as_members(layer))) for layer in layers)
        rootfs = self.snapshots.prepare(
            "c" * 64, Image(id="sha256:0", config=ImageConfig(), raw_config=b"", diff_ids=diff_ids)
        )
        os.unlink(f"{rootfs.upperdir}/{MARKER}")
        mount_overlay(rootfs)
        try:
            return shown(rootfs.path)
        finally:
            mount.umount(rootfs.path)
            self.snapshots.remove("c" * 64)
            self.snapshots.sweep(())
            for diff_id in set(diff_ids):
                shutil.rmtree(self.dirs.layer(diff_id))


def on_a_disk(base):
    return f"{base}/root"


def on_tmpfs(base):
    os.mkdir(f"{base}/tmpfs")
    mount.mount("tmpfs", f"{base}/tmpfs", "tmpfs")
    return f"{base}/tmpfs/root"


def on_overlay(base):
    """Where sampan runs in a container that has no volume for its store."""
    os.mkdir(f"{base}/under")
    mount.mount("tmpfs", f"{base}/under", "tmpfs")
    for name in ("lower", "upper", "work", "rootfs"):
        os.mkdir(f"{base}/under/{name}")
    mount_overlay(
        Rootfs(
            path=f"{base}/under/rootfs",
            lowerdirs=(f"{base}/under/lower",),
            upperdir=f"{base}/under/upper",
            workdir=f"{base}/under/work",
        )
    )
    return f"{base}/under/rootfs/root"


@pytest.mark.parametrize(("place", "examples"), [(on_a_disk, 100), (on_tmpfs, 400), (on_overlay, 400)])
def test_an_assembly_shows_what_unpacking_one_over_another_makes(tmp_path, place, examples):
    def run():
        store = Store(place(tmp_path))

        @settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=examples, database=None)
        @given(layers=naive.stacks)
        def check(layers):
            try:
                expected = naive.flat(naive.apply(layers))
            except naive.Refused:
                assume(False)

            assert store.shows(layers) == expected

        try:
            check()
        except Exception:
            return traceback.format_exc()

    said = in_child(run)

    assert said is None, said
