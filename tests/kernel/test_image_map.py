"""Where an image's bytes are: against the definitions, on random layers, and against what overlayfs shows."""

import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections import Counter

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from sampan.image.map import DELETED, OVERWRITTEN, Walk, how_of
from sampan.image.map_report import Wanted, report
from sampan.image.unpack import unpack_layer
from sampan.spec.image import LayerRecord
from support.child import in_child

OPAQUE = "trusted.overlay.opaque"
WHITEOUT = "trusted.overlay.whiteout"


@pytest.fixture
def where(tmp_path_factory):
    """Return a directory on the disk: trusted attributes and overlays are made there."""
    return tmp_path_factory.mktemp("map")


def make_layer(path, operations, opaque_root=False):
    """Make an unpacked layer by operations on its files; one that is impossible is left out."""
    root = f"{path}/diff"
    os.makedirs(root)
    for what, name, value in operations:
        target = f"{root}/{name}"
        try:
            if what != "opaque":
                os.makedirs(os.path.dirname(target), exist_ok=True)
            if what == "file":
                with open(target, "xb") as file:
                    file.write(b"x" * value)
            elif what == "link":
                os.link(f"{root}/{value}", target)
            elif what == "symlink":
                os.symlink(value, target)
            elif what == "directory":
                os.mkdir(target)
            elif what == "whiteout":
                os.mknod(target, stat.S_IFCHR, 0)
            elif what == "whiteout file":  # as on a store that lies on overlayfs
                os.close(os.open(target, os.O_CREAT | os.O_EXCL))
                os.setxattr(target, WHITEOUT, b"y")
                os.setxattr(os.path.dirname(target), OPAQUE, b"x", os.XATTR_CREATE)
            elif what == "opaque" and stat.S_ISDIR(os.lstat(target).st_mode):
                os.setxattr(target, OPAQUE, b"y")
        except OSError:
            continue
    write_record(path, opaque_root=opaque_root)
    return str(path)


def write_record(path, **fields):
    record = LayerRecord(diff_id="sha256:0", tar_bytes=0, content_bytes=0, **fields)
    with open(f"{path}/layer.json", "wb") as file:
        file.write(msgspec.json.encode(record))


def xattr(path, name):
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None


def is_whiteout(path, status):
    marked = xattr(os.path.dirname(path), OPAQUE) == b"x" and stat.S_ISREG(status.st_mode) and xattr(path, WHITEOUT)
    return bool(marked) or (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0)


class Naive:
    """The definitions, layer by layer and path by path."""

    def __init__(self, layers):
        self.trees = []
        for layer in layers:
            found, opaque, whiteouts = {}, set(), set()
            root = f"{layer}/diff"
            for directory, directories, files in os.walk(root):
                for name in (*directories, *files):
                    path, shown = os.path.join(directory, name), os.path.relpath(f"{directory}/{name}", root)
                    found[shown] = os.lstat(path)
                    if is_whiteout(path, found[shown]):
                        whiteouts.add(shown)
                    if stat.S_ISDIR(found[shown].st_mode) and xattr(path, OPAQUE) == b"y":
                        opaque.add(shown)
            with open(f"{layer}/layer.json", "rb") as file:
                if msgspec.json.decode(file.read(), type=LayerRecord).opaque_root:
                    opaque.add(".")
            self.trees.append((found, opaque, whiteouts))

    def hider(self, layer, path):
        """The first layer above that takes `path` from view, and how."""
        parts = path.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        for number in range(layer + 1, len(self.trees)):
            found, opaque, whiteouts = self.trees[number]
            replaced = path in found and path not in whiteouts
            for directory in above:
                status = found.get(directory)
                replaced |= status is not None and not stat.S_ISDIR(status.st_mode) and directory not in whiteouts
            if replaced:
                return number, OVERWRITTEN
            if whiteouts & {*above, path} or opaque & {".", *above}:
                return number, DELETED
        return None

    def files(self):
        """(directory, layer, hider) → bytes and number of files."""
        sizes, counts = Counter(), Counter()
        inodes, size = {}, {}
        for layer, (found, _, whiteouts) in enumerate(self.trees):
            for path, status in found.items():
                if stat.S_ISREG(status.st_mode) and path not in whiteouts:
                    inodes.setdefault((layer, status.st_ino), []).append((path, self.hider(layer, path)))
                    size[layer, status.st_ino] = status.st_size
        for inode, names in inodes.items():
            seen = [name for name in names if name[1] is None]
            last = max((hider for _, hider in names if hider), default=None)
            path, hider = min(seen or [name for name in names if name[1] == last])
            sizes[os.path.dirname(path), inode[0], hider] += size[inode]
            counts[os.path.dirname(path), inode[0], hider] += 1
        return sizes, counts


def walked(layers):
    walk = Walk(layers, keep_files=100)
    sizes, counts = Counter(), Counter()
    for cell in walk.cells():
        hider = None if cell.hider == walk.seen else how_of(cell.hider)
        key = (os.fsdecode(walk.path(cell.directory)[1:]), cell.layer, hider)
        sizes[key] += cell.size
        counts[key] += cell.files
    return sizes, counts


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)
OPERATION = st.one_of(
    st.tuples(st.just("file"), NAMES, st.integers(0, 50)),
    st.tuples(st.just("file"), NAMES, st.integers(0, 50)),
    st.tuples(st.just("link"), NAMES, NAMES),
    st.tuples(st.just("symlink"), NAMES, NAMES),
    st.tuples(st.just("directory"), NAMES, st.none()),
    st.tuples(st.sampled_from(["whiteout", "whiteout file"]), NAMES, st.none()),
    st.tuples(st.just("opaque"), NAMES, st.none()),
)
LAYER = st.tuples(st.lists(OPERATION, max_size=12), st.sampled_from([False, False, False, True]))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LAYER, min_size=1, max_size=4))
def test_every_file_is_seen_or_hidden_by_the_nearest_layer_that_hides_it(where, given_layers):
    shutil.rmtree(where, ignore_errors=True)
    layers = [make_layer(where / str(number), *layer) for number, layer in enumerate(given_layers)]

    assert walked(layers) == Naive(layers).files()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(OPERATION, max_size=12), min_size=2, max_size=4))
def test_what_is_not_wasted_is_what_overlayfs_shows(where, given_layers):
    shutil.rmtree(where, ignore_errors=True)
    layers = [make_layer(where / str(number), operations) for number, operations in enumerate(given_layers)]
    (where / "m").mkdir()

    sizes, _ = walked(layers)
    seen = sum(size for (_, _, hider), size in sizes.items() if hider is None)

    assert seen == in_child(lambda: shown_bytes(layers, where / "m"))


def shown_bytes(layers, target):
    """Mount the layers (in a namespace of this child) and add up what is to be seen."""
    lower = ":".join(f"{layer}/diff" for layer in reversed(layers))
    subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={lower}", "overlay", str(target)], check=True)
    inodes = {}
    for directory, _, files in os.walk(target):
        for name in files:
            try:
                status = os.lstat(os.path.join(directory, name))
            except FileNotFoundError:  # a whiteout that hides nothing is listed (rootfs/overlay cures that)
                continue
            if stat.S_ISREG(status.st_mode):
                inodes[status.st_dev, status.st_ino] = status.st_size
    return sum(inodes.values())


def tar_of(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
            elif content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size = content
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return buffer.getvalue()


def unpacked(where, *tars):
    layers = []
    for number, data in enumerate(tars):
        (where / f"{number}.tar").write_bytes(data)
        fd = os.open(where / f"{number}.tar", os.O_RDONLY)
        unpack_layer(fd, f"{where}/{number}")
        os.close(fd)
        layers.append(f"{where}/{number}")
    return layers


def test_a_report_names_layers_directories_files_and_waste(where):
    layers = unpacked(
        where,
        tar_of(("usr", None), ("usr/big", 5000), ("var/lib/lists/a", 300), ("var/lib/lists/b", 200), ("etc/x", 10)),
        tar_of(("usr/big", 4000), ("opt/y", 100), ("opt/z", (tarfile.LNKTYPE, "opt/y"))),
        tar_of(("var/lib/lists/.wh.a", 0), ("var/lib/lists/.wh.b", 0), ("etc/.wh..wh..opq", 0)),
    )

    found = report(layers, (1, 2, 3), Wanted(depth=2, top=3, nodes=4))

    assert (found.size, found.wasted, found.files) == (9610, 5510, 6)
    assert [(layer.number, layer.size, layer.files, layer.wasted) for layer in found.layers] == [
        (1, 5510, 4, 5510),
        (2, 4100, 2, 0),
        (3, 0, 0, 0),
    ]
    assert [(d.path, d.size, d.wasted, d.files, d.layers) for d in found.directories] == [
        ("/usr", 9000, 5000, 2, (1, 2)),
        ("/var", 500, 500, 2, (1,)),
        ("/var/lib", 500, 500, 2, (1,)),
    ]
    assert [(f.path, f.layer, f.size, f.by, f.how) for f in found.largest] == [
        ("/usr/big", 1, 5000, 2, "overwritten"),
        ("/usr/big", 2, 4000, 0, ""),
        ("/var/lib/lists/a", 1, 300, 3, "deleted"),
    ]
    assert [(w.layer, w.by, w.how, w.size, w.files, w.path) for w in found.waste] == [
        (1, 2, "overwritten", 5000, 1, "/usr"),
        (1, 3, "deleted", 510, 3, "/var/lib/lists"),
    ]
    assert [f.path for f in found.wasted_files] == ["/usr/big", "/var/lib/lists/a", "/var/lib/lists/b"]
    names = [(node.name, node.parent, node.size, node.wasted, node.layers, node.file) for node in found.nodes]
    assert names[0] == ("/", -1, 9610, 5510, ((1, 5510), (2, 4100)), False)
    assert sorted(name for name, _, _, _, _, file in names if not file) == ["/", "lib", "usr", "var"]
    assert [(n[0], names[n[1]][0], n[2], n[3]) for n in names if n[5]] == [
        ("big", "usr", 5000, 5000),
        ("big", "usr", 4000, 0),
    ]


def test_bytes_of_a_hard_link_are_wasted_when_its_last_name_is_gone(where):
    base = tar_of(("a/x", 100), ("b/x", (tarfile.LNKTYPE, "a/x")), ("c/x", (tarfile.LNKTYPE, "a/x")))
    once, twice = tar_of(("a/.wh.x", 0)), tar_of(("b/.wh.x", 0), ("c/x", 7))

    some = report(unpacked(where, base, once), (1, 2), Wanted())
    assert (some.size, some.wasted) == (100, 0)
    assert [file.path for file in some.largest] == ["/b/x"]
    shutil.rmtree(where)
    where.mkdir()
    every = report(unpacked(where, base, once, twice), (1, 2, 3), Wanted())
    assert (every.size, every.wasted) == (107, 100)
    assert [(file.path, file.by, file.how) for file in every.wasted_files] == [("/b/x", 3, "deleted")]


def test_an_image_without_layers_has_a_root_and_nothing_in_it():
    found = report([], (), Wanted(nodes=5))

    assert (found.size, found.files, found.layers, found.directories) == (0, 0, (), ())
    assert [node.name for node in found.nodes] == ["/"]


def test_holes_are_no_bytes(where):
    layer = make_layer(where / "1", [("file", "plain", 70_000)])
    with open(f"{layer}/diff/sparse", "wb") as file:
        file.seek(1 << 30)
        file.write(b"x" * 4096)
    with open(f"{layer}/diff/empty", "wb") as file:
        file.truncate(1 << 40)

    found = report([layer], (1,), Wanted())

    assert {file.path: file.size for file in found.largest} == {"/plain": 70_000, "/sparse": 4096}


def test_no_link_is_followed_and_hostile_names_are_text(where, tmp_path):
    (tmp_path / "secret").write_bytes(b"x" * 12345)
    layer = make_layer(where / "1", [("symlink", "out", str(tmp_path)), ("symlink", "file", f"{tmp_path}/secret")])
    os.mkfifo(f"{layer}/diff/pipe")
    os.mkdir(f"{layer}/diff/{'<script>' * 20}")
    with open(os.fsencode(f"{layer}/diff/") + b"bad\xff\x1b[31m\n", "wb") as file:
        file.write(b"xyz")

    found = report([layer], (1,), Wanted(nodes=10))

    assert (found.size, found.files) == (3, 1)
    assert [file.path for file in found.largest] == ["/bad\\xff\x1b[31m\n"]


def test_a_tree_deeper_than_a_path_may_be_long_is_walked(where):
    layer = make_layer(where / "1", [])
    fd = os.open(f"{layer}/diff", os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d" * 60, dir_fd=fd)
        below = os.open("d" * 60, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)

    found = report([layer, make_layer(where / "2", [])], (1, 2), Wanted(nodes=1000))

    assert found.files == 1
    assert len(msgspec.json.encode(found)) < 100_000
    from sampan.kernel.trees import remove_tree

    remove_tree(layer)


def test_a_real_debian_is_what_overlayfs_shows_of_it(where, debian_tar):
    upper = tar_of(
        ("usr/bin/.wh.perl", 0), ("usr/share/.wh..wh..opq", 0), ("etc/passwd", 5), ("usr/lib/python3", 3), ("new/f", 9)
    )
    layers = unpacked(where, debian_tar.read_bytes(), upper)
    (where / "m").mkdir()

    found = report(layers, (1, 2), Wanted(depth=3, top=20, nodes=500))

    assert found.size - found.wasted == in_child(lambda: shown_bytes(layers, where / "m"))
    assert found.wasted > 1_000_000
    assert sum(layer.size for layer in found.layers) == found.size
    with open(f"{layers[0]}/layer.json", "rb") as file:
        assert found.layers[0].size == msgspec.json.decode(file.read(), type=LayerRecord).content_bytes
    assert {waste.path for waste in found.waste} >= {"/usr"} or found.waste
    nodes = found.nodes
    for number, node in enumerate(nodes[1:], 1):
        assert -1 < node.parent < number
    below = Counter()
    for node in nodes[1:]:
        below[node.parent] += node.size
    assert all(below[number] <= node.size for number, node in enumerate(nodes))
