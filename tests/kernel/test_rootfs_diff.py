"""What a container has changed: its upper directory read beside a real overlay, against what the mount shows."""

import os
import resource
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings

from sampan.errors import InvalidInput
from sampan.kernel.trees import remove_tree
from sampan.rootfs.diff import changes
from sampan.rootfs.overlay import Metadata
from sampan.rootfs.union import Stack
from support.child import in_child
from support.overlays import Overlay, actions, naive, perform, populate, tree


@pytest.fixture
def overlay(tmp_path):
    yield Overlay(tmp_path)
    remove_tree(str(tmp_path))  # pytest, which cleans up in some later run, can't remove thousands of levels


def told(overlay, own=()):
    """(kind, path) of what is shown, as a set; no path is shown twice."""
    with Stack(overlay.layers) as stack:
        found = [(c.kind, c.path) for c in changes(stack, Metadata(), own) if c.kind]
    assert len(found) == len(set(found))
    return set(found)


def members(overlay):
    with Stack(overlay.layers) as stack:
        return [change for change in changes(stack, Metadata()) if change.member]


def put(path, content="x"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)


@settings(max_examples=60, deadline=None)
@given(actions, actions)
def test_it_is_what_comparing_the_two_trees_file_by_file_tells(tmp_path_factory, first, second):
    overlay = Overlay(tmp_path_factory.mktemp("o"))
    overlay.add(populate)
    overlay.add(lambda: perform(first))
    before = overlay.again(tree)
    overlay.add(lambda: perform(second))

    assert told(overlay) == naive(before, overlay.again(tree))


@settings(max_examples=30, deadline=None)
@given(actions, actions)
def test_walking_the_layers_shows_what_the_mount_shows(tmp_path_factory, first, second):
    overlay = Overlay(tmp_path_factory.mktemp("o"))
    overlay.add(populate)
    for things in (first, second):
        overlay.add(lambda things=things: perform(things))

    with Stack(overlay.layers) as stack:
        found = [(node.path, node.status.st_mode, node.status.st_size) for node in stack.walk()][1:]

    shown = overlay.again(lambda: {p: os.lstat(p) for p in tree()})
    assert [path for path, *_ in found] == sorted(shown, key=lambda path: path.split("/"))
    assert {path: mode for path, mode, _ in found} == {path: s.st_mode for path, s in shown.items()}


def test_a_directory_shows_if_something_in_it_is_changed_and_not_if_only_its_time_is(overlay):
    overlay.add(lambda: (put("d/e/f"), put("t/x")))
    overlay.add(lambda: (put("d/e/f", "y"), put("t/y"), os.unlink("t/y")))

    assert told(overlay) == {("C", "d"), ("C", "d/e"), ("C", "d/e/f")}


def test_what_was_deleted_shows_without_what_was_in_it(overlay):
    overlay.add(lambda: (put("d/e/f"), put("g")))
    overlay.add(lambda: perform([("remove", "d", ""), ("remove", "g", "")]))

    assert told(overlay) == {("D", "d"), ("D", "g")}


def test_a_directory_made_anew_shows_what_it_lacks(overlay):
    overlay.add(lambda: (put("d/gone"), put("d/sub/gone"), put("d/kept")))
    overlay.add(lambda: (perform([("remove", "d", "")]), put("d/new")))

    assert told(overlay) == {("C", "d"), ("D", "d/gone"), ("D", "d/sub"), ("D", "d/kept"), ("A", "d/new")}
    assert [(c.path, c.anew) for c in members(overlay)] == [("d", True), ("d/new", False)]


def test_a_file_that_was_only_opened_for_writing_is_not_changed(overlay):
    overlay.add(lambda: put("f"))
    overlay.add(lambda: os.close(os.open("f", os.O_RDWR)))

    assert os.listdir(overlay.layers[0]) == ["f"]
    assert told(overlay) == set()
    assert members(overlay) == []


def test_other_content_of_the_same_size_and_time_is_a_change(overlay):
    overlay.add(lambda: (put("f", "one"), os.utime("f", (1, 1))))
    overlay.add(lambda: (put("f", "two"), os.utime("f", (1, 1))))

    assert told(overlay) == {("C", "f")}


def test_another_name_of_a_file_takes_the_file_into_the_layer(overlay):
    overlay.add(lambda: put("f"))
    overlay.add(lambda: os.link("f", "g"))

    assert told(overlay) == {("A", "g")}
    assert [c.path for c in members(overlay)] == ["f", "g"]


def test_a_changed_root_shows(overlay):
    overlay.add()
    overlay.add(lambda: os.chmod(".", 0o700))

    assert told(overlay) == {("C", "")}


def test_whiteouts_with_nothing_below_do_not_show(overlay):
    overlay.add(lambda: put("d/f"))
    overlay.add(lambda: (put("d/new"), os.unlink("d/new"), put("e/f"), os.unlink("e/f")))
    os.mknod(f"{overlay.layers[0]}/d/orphan", 0o020000, 0)

    assert told(overlay) == {("A", "e")}


def test_whiteouts_by_attribute_are_whiteouts(overlay):
    overlay.add(lambda: (put("d/f"), put("d/g")))
    overlay.add(lambda: put("d/f", "y"))
    upper = overlay.layers[0]
    put(f"{upper}/d/g", "")
    os.setxattr(f"{upper}/d/g", "trusted.overlay.whiteout", b"y")
    os.setxattr(f"{upper}/d", "trusted.overlay.opaque", b"x")

    assert told(overlay) == {("C", "d"), ("C", "d/f"), ("D", "d/g")}


OWN = ("/etc/hosts", "/proc", "/dev/shm", "/etc/resolv.conf")


def test_the_engines_own_mount_points_do_not_show(overlay):
    overlay.add(lambda: (Path("run").mkdir(), Path("dev").mkdir()))
    overlay.add(lambda: (put("etc/hosts", ""), Path("proc").mkdir(), Path("dev/shm").mkdir()))

    assert told(overlay, OWN) == set()


def test_what_is_beside_or_on_the_engines_own_mount_points_shows(overlay):
    overlay.add(lambda: Path("run").mkdir())
    overlay.add(lambda: (put("etc/hosts", "mine"), put("etc/passwd"), put("proc/file")))

    assert told(overlay, OWN) == {
        *(("C", "etc"), ("A", "etc/hosts"), ("A", "etc/passwd")),
        *(("C", "proc"), ("A", "proc/file")),
    }


def test_a_mount_point_is_found_through_the_images_links(overlay):
    def image():
        Path("etc").mkdir()
        os.symlink("../run/resolve/stub.conf", "etc/resolv.conf")
        os.symlink("/new/place", "proc")

    overlay.add(image)
    overlay.add(lambda: (put("run/resolve/stub.conf", ""), Path("new/place").mkdir(parents=True)))

    assert told(overlay, OWN) == set()


# -------------------------------------------------------------------------------------------------------------- hostile


def test_links_in_it_are_not_followed(overlay, tmp_path):
    (tmp_path / "secret").mkdir()
    put(tmp_path / "secret/file", "x")
    overlay.add(lambda: put("d/file", "x"))
    overlay.add(lambda: (perform([("remove", "d", "")]), os.symlink(tmp_path / "secret", "d"), os.symlink("/", "r")))

    assert told(overlay) == {("C", "d"), ("A", "r")}


def test_a_link_in_a_lower_layer_leads_nowhere(overlay):
    overlay.add(lambda: os.symlink("/etc", "d"))
    overlay.add(lambda: (os.unlink("d"), put("d/passwd")))

    assert told(overlay) == {("C", "d"), ("A", "d/passwd")}


def test_thousands_of_levels_are_refused_with_a_sentence(overlay):
    def deep():
        for _ in range(3000):
            os.mkdir("dd")
            os.chdir("dd")

    overlay.add()
    overlay.add(deep)

    with pytest.raises(InvalidInput, match="nested too deeply"):
        told(overlay)


def test_a_tree_of_many_levels_needs_few_descriptors(overlay):
    overlay.add(lambda: os.makedirs("/".join(["a"] * 500)))
    overlay.add(lambda: put("/".join(["a"] * 500) + "/f"))

    def limited():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        return told(overlay)

    assert len(in_child(limited)) == 501


def test_a_tree_that_changes_while_it_is_read_leads_nowhere_and_ends(overlay, tmp_path):
    put(tmp_path / "secret/file")
    overlay.add(lambda: [put(f"d{n}/file", "y") for n in range(20)])
    overlay.add(lambda: [put(f"d{n}/file") for n in range(20)])
    upper = overlay.layers[0]
    stop = threading.Event()

    def mischief():
        while not stop.is_set():
            for n in range(20):
                path = f"{upper}/d{n}"
                os.rename(path, f"{upper}/aside")
                os.symlink(tmp_path / "secret", path)
                os.unlink(path)
                os.mkfifo(path)
                os.unlink(path)
                os.rename(f"{upper}/aside", path)

    thread = threading.Thread(target=mischief)
    thread.start()
    try:
        for _ in range(50):
            with Stack(overlay.layers) as stack:
                for change in changes(stack, Metadata()):
                    opened = stack.open(0, change.path) if change.path else None
                    if opened is not None:
                        assert os.read(opened[0], 10) == b"x"
                        os.close(opened[0])
    finally:
        stop.set()
        thread.join()
