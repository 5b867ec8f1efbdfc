"""Layers put together, as a real overlay mount shows them; and the built-in image of this machine."""

import io
import os
import stat
import tarfile

import pytest

from sampan import dirs
from sampan.errors import Conflict
from sampan.kernel import mount
from sampan.rootfs import host
from sampan.rootfs.overlay import MARKER
from sampan.rootfs.snapshots import Snapshots
from sampan.spec.image import Image, ImageConfig
from support.child import in_child
from support.image_store import layer_of, mount_overlay

ID = "c" * 64


def directory(name, mode=0o755, **fields):
    return name, None, {"mode": mode, **fields}


def file(name, content=b"", **fields):
    return name, content, fields


def archive(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


class Store:
    """Unpacks layers and shows what a container over them would see."""

    def __init__(self, root):
        self.dirs = dirs.find(str(root))
        os.makedirs(f"{self.dirs.layers}/sha256")
        os.makedirs(self.dirs.tmp)
        self.snapshots = Snapshots(self.dirs)

    def image(self, *layers):
        return Image(
            id="sha256:0",
            config=ImageConfig(),
            raw_config=b"",
            diff_ids=tuple(self.layer(members) for members in layers),
        )

    def layer(self, members):
        return layer_of(self.dirs, archive(members))

    def shown(self, *layers, look):
        rootfs = self.snapshots.prepare(ID, self.image(*layers))
        os.unlink(f"{rootfs.upperdir}/{MARKER}")

        def inside():
            mount_overlay(rootfs)
            return look(rootfs.path)

        return in_child(inside)


def tree(path):
    """All paths below, with mode and owner of directories, and the content of files."""
    found = {}
    for base, names, files in os.walk(path):
        for name in names:
            status = os.lstat(f"{base}/{name}")
            found[os.path.relpath(f"{base}/{name}", path)] = (
                stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
            )
        for name in files:
            with open(f"{base}/{name}", "rb") as opened:
                found[os.path.relpath(f"{base}/{name}", path)] = opened.read()
    return found


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "root")


def test_layers_cover_one_another(store):
    shown = store.shown(
        [directory("d"), file("d/a", b"1"), file("d/b", b"1"), file("e", b"1")],
        [directory("d"), file("d/a", b"2"), file("d/.wh.b"), file(".wh.e")],
        look=tree,
    )

    assert shown == {"d": (0o755, 0, 0), "d/a": b"2"}


def test_an_implied_directory_keeps_the_metadata_of_below(store):
    shown = store.shown(
        [directory("tmp", 0o1777), directory("srv", 0o700, uid=5, gid=6), directory("srv/x", 0o711)],
        [file("tmp/a"), file("srv/x/y/z")],
        [file("tmp/b")],
        look=tree,
    )

    assert shown["tmp"] == (0o1777, 0, 0)
    assert shown["srv"] == (0o700, 5, 6)
    assert shown["srv/x"] == (0o711, 0, 0)
    assert shown["srv/x/y"] == (0o755, 0, 0)
    assert {"tmp/a", "tmp/b", "srv/x/y/z"} <= shown.keys()


def test_an_implied_directory_that_starts_anew_is_as_usual(store):
    shown = store.shown(
        [directory("d", 0o700, uid=5), file("d/old")],
        [file(".wh.d"), file("d/new")],
        look=tree,
    )

    assert shown == {"d": (0o755, 0, 0), "d/new": b""}


def test_an_opaque_mark_in_an_implied_directory_is_not_about_its_metadata(store):
    shown = store.shown(
        [directory("d", 0o700, uid=5), file("d/old"), directory("d/sub", 0o700), file("d/sub/x")],
        [file("d/.wh..wh..opq"), file("d/new"), file("d/sub/y")],
        look=tree,
    )

    assert shown == {"d": (0o700, 5, 0), "d/new": b"", "d/sub": (0o755, 0, 0), "d/sub/y": b""}


def test_an_explicit_directory_above_wins_over_an_implied_one(store):
    shown = store.shown(
        [directory("d", 0o700)],
        [directory("d", 0o711)],
        [file("d/a")],
        [directory("e", 0o500), file("d/b")],
        look=tree,
    )

    assert shown["d"] == (0o711, 0, 0)
    assert shown["e"] == (0o500, 0, 0)


def test_whiteouts_with_nothing_below_do_not_show(store):
    shown = store.shown(
        [directory("a"), file("a/x", b"1"), file("a/.wh.never"), file(".wh.nowhere")],
        [directory("b"), file("b/.wh.never"), directory("b/c"), file("b/c/.wh.never"), file("b/c/y")],
        look=tree,
    )

    assert shown == {"a": (0o755, 0, 0), "a/x": b"1", "b": (0o755, 0, 0), "b/c": (0o755, 0, 0), "b/c/y": b""}


def test_a_file_between_two_directories_hides_the_lower_one(store):
    shown = store.shown(
        [directory("d", 0o700), file("d/old")],
        [file("d", b"file")],
        [file(".wh.d"), file("d/new")],
        look=tree,
    )

    assert shown == {"d": (0o755, 0, 0), "d/new": b""}


def test_a_file_that_its_own_layer_replaces_by_a_directory_has_hidden_what_is_below(store):
    shown = store.shown(
        [directory("d", 0o700), file("d/old")],
        [file("d", b"file"), directory("d", 0o711), file("d/new")],
        look=tree,
    )

    assert shown == {"d": (0o711, 0, 0), "d/new": b""}


def test_an_opaque_root_hides_all_layers_below(store):
    shown = store.shown([file("old")], [file(".wh..wh..opq"), file("new")], look=tree)

    assert shown == {"new": b""}


def test_the_roots_own_metadata_is_the_images(store):
    shown = store.shown(
        [directory(".", 0o711, uid=7, gid=8), file("a")],
        [file("b")],
        look=lambda path: (stat.S_IMODE(os.stat(path).st_mode), os.stat(path).st_uid, os.stat(path).st_gid),
    )

    assert shown == (0o711, 7, 8)


def test_an_image_without_layers_is_an_empty_root(store):
    assert store.shown(look=os.listdir) == []


def test_most_images_need_no_further_layer(store):
    rootfs = store.snapshots.prepare(
        ID, store.image([directory("d"), file("d/a")], [directory("d"), file("d/b"), file("d/.wh.a")])
    )

    assert len(rootfs.lowerdirs) == 2
    assert os.listdir(store.dirs.shapes) == []


def test_a_layer_may_be_there_twice(store):
    lower = [directory("d"), file("d/a", b"1"), file("d/.wh.c")]

    shown = store.shown(
        [file("d/c")], lower, [directory("d"), file("d/a", b"2"), file("d/b"), file("d/c")], lower, look=tree
    )

    assert shown == {"d": (0o755, 0, 0), "d/a": b"1", "d/b": b""}


def test_a_hundred_and_fifty_layers_are_mounted(store):
    layers = [[directory("d"), file(f"d/{number}"), file("last", b"%d" % number)] for number in range(150)]

    shown = store.shown(*layers, look=tree)

    assert len(shown) == 152
    assert shown["last"] == b"149"


def test_a_second_container_of_an_image_takes_a_few_system_calls(store):
    image = store.image([directory("tmp", 0o1777)], [file("tmp/a")])
    first = store.snapshots.prepare(ID, image)
    second = store.snapshots.prepare("d" * 64, image)

    assert first.lowerdirs == second.lowerdirs
    assert len(first.lowerdirs) == 3
    with pytest.raises(Conflict, match="is there already"):
        store.snapshots.prepare(ID, image)


@pytest.mark.parametrize(
    ("layers", "upper"),
    [
        (([],), [MARKER]),
        (([file(MARKER, b"of an export")], [file("a")]), []),
        (([file(MARKER)], [file(f".wh.{MARKER}")]), [MARKER]),
    ],
)
def test_the_mark_of_a_container_is_made_where_its_image_has_none(store, layers, upper):
    rootfs = store.snapshots.prepare(ID, store.image(*layers))

    assert os.listdir(rootfs.upperdir) == upper


def test_what_a_container_wrote_is_counted_and_removed(store):
    rootfs = store.snapshots.prepare(ID, store.image([file("a")]))
    with open(f"{rootfs.upperdir}/new", "wb") as opened:
        opened.write(b"x" * 1000)
    os.link(f"{rootfs.upperdir}/new", f"{rootfs.upperdir}/same")

    assert store.snapshots.usage(ID) == 1000
    store.snapshots.remove(ID)
    assert os.listdir(store.dirs.containers) == []


def test_shapes_go_when_no_container_uses_them(store):
    rootfs = store.snapshots.prepare(ID, store.image([directory("tmp", 0o1777)], [file("tmp/a")]))

    store.snapshots.sweep(rootfs.lowerdirs)
    assert os.path.isdir(rootfs.lowerdirs[0])
    store.snapshots.sweep(())
    assert os.listdir(store.dirs.shapes) == []


# -- host


@pytest.fixture
def of_host(store):
    rootfs = store.snapshots.prepare(ID, host.image("x86_64"))
    yield rootfs
    store.snapshots.sweep(())
    assert not os.path.exists(os.path.dirname(rootfs.lowerdirs[0]))


def look(rootfs, function):
    def inside():
        mount_overlay(rootfs)
        return function(rootfs.path)

    return in_child(inside)


def test_the_host_image_runs_this_machines_programs(of_host):
    def run(path):
        os.chroot(path)
        return os.path.exists("/bin/sh"), sorted(os.listdir("/etc"))[:1], oct(os.stat("/tmp").st_mode)

    assert look(of_host, run) == (True, sorted(os.listdir("/etc"))[:1], oct(os.stat("/tmp").st_mode))


def test_the_host_image_hides_what_is_secret_or_not_the_machines(of_host, store, tmp_path):
    hidden = [
        "/root",
        "/home",
        "/tmp",
        "/run",
        "/var/tmp",
        "/proc",
        "/dev",
        "/sys",
        "/etc/ssl/private",
        "/var/lib/docker",
    ]

    def inside(path):
        found = {name: os.listdir(path + name) for name in hidden if os.path.isdir(path + name)}
        return {name: names for name, names in found.items() if names}, os.path.exists(path + store.dirs.root)

    assert look(of_host, inside) == ({}, False)


def test_every_account_is_locked_in_the_host_image(of_host):
    def inside(path):
        with open(f"{path}/etc/shadow") as opened:
            lines = [line.split(":") for line in opened]
        return {fields[1] for fields in lines}, len(lines), oct(os.stat(f"{path}/etc/shadow").st_mode)

    passwords, count, mode = look(of_host, inside)

    assert passwords <= {"*", "!", "!!", "!*", "x"}
    with open("/etc/shadow") as opened:
        assert count == len(opened.readlines())
    assert mode == oct(os.stat("/etc/shadow").st_mode)


def test_directories_of_the_host_image_look_as_the_machines_own(of_host):
    names = ["/", "/etc", "/var", "/var/lib", "/root", "/tmp", "/usr", "/etc/ssl", "/home"]

    def metadata(path):
        return [(s.st_mode, s.st_uid, s.st_gid) for s in (os.stat(path + name) for name in names)]

    assert look(of_host, metadata) == metadata("")


def test_a_container_may_change_the_host_images_files_and_the_host_does_not_see_it(of_host):
    def change(path):
        with open(f"{path}/etc/shadow", "a") as opened:
            opened.write("new:*:1::::::\n")
        os.rename(f"{path}/etc/passwd", f"{path}/etc/passwd.moved")
        os.mkdir(f"{path}/root/new")
        return sorted(os.listdir(f"{path}/root"))

    before = os.stat("/etc/shadow").st_mtime_ns

    assert look(of_host, change) == ["new"]
    assert os.stat("/etc/shadow").st_mtime_ns == before
    assert os.path.exists("/etc/passwd")


def test_a_file_of_ours_that_appears_is_hidden_at_the_next_start(store, tmp_path, monkeypatch):
    secret = tmp_path / "secrets"
    monkeypatch.setattr(host, "EMPTIED", (*(path for path in host.EMPTIED if path != "/tmp"), str(secret)))
    snapshots = Snapshots(store.dirs)
    rootfs = snapshots.prepare(ID, host.image("x86_64"))
    first = os.path.realpath(rootfs.lowerdirs[0])
    secret.mkdir()
    (secret / "key").write_text("secret")

    snapshots.make_ready(rootfs)

    assert os.path.realpath(rootfs.lowerdirs[0]) != first
    assert look(rootfs, lambda path: os.listdir(path + str(secret))) == []
    snapshots.sweep(())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"root:$6$hash:1:0:::::\n", b"root:*:1:0:::::\n"),
        (b"root::1\n", b"root:*:1\n"),
        (b"daemon:*:1\nnobody:!:1\n", b"daemon:*:1\nnobody:!:1\n"),
        (b"locked:!$6$hash:1\n", b"locked:*:1\n"),
        (b"group:hash::\n", b"group:*::\n"),
        (b"", b""),
    ],
)
def test_no_password_survives(before, after):
    assert host.lock(before) == after


def test_nothing_of_the_mounts_is_left_on_the_machine(store):
    store.shown([file("a")], look=os.listdir)

    assert not [m for m in mount.mountinfo() if m.mount_point.startswith(store.dirs.root)]
