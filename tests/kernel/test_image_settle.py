"""A layer made of the directory itself that a container wrote to, nothing copied: the same one that copying makes."""

import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings

from sampan.errors import InvalidInput
from sampan.image.recipe import tar_of
from sampan.image.unpack import read_record
from sampan.supervise import composing, messages
from support.overlays import Overlay, actions, perform, populate, tree

ROOT = (0o755, 0, 0, ())


@pytest.fixture
def overlay(tmp_path):
    return Overlay(tmp_path)


def put(path, content="x"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)


def settle(overlay, **how):
    """Settle the topmost directory; the overlay has the layer in its place."""
    target = str(overlay.directory / "layer")
    result = composing.settle(messages.Settle(target=target, layers=tuple(overlay.layers), root=ROOT, **how))
    overlay.layers[0] = f"{target}/diff"
    assert read_record(target).diff_id == result.diff_id
    return target, result


def compose(overlay, **how):
    target = str(overlay.directory / "composed")
    return composing.compose(messages.Compose(target=target, layers=tuple(overlay.layers), root=ROOT, **how)), target


def without_sockets(shown):
    return {path: told for path, told in shown.items() if told[0] != stat.S_IFSOCK}


@settings(max_examples=15, deadline=None)
@given(actions, actions)
def test_it_is_the_layer_that_copying_makes_and_shows_what_the_container_shows(tmp_path_factory, first, second):
    overlay = Overlay(tmp_path_factory.mktemp("o"))
    overlay.add(populate)
    overlay.add(lambda: perform(first))
    overlay.add(lambda: perform(second))
    shown = overlay.again(tree)
    composed, target = compose(overlay)
    copied = read_record(target)

    settled, result = settle(overlay)

    assert (result.diff_id, result.content_bytes) == (composed.diff_id, composed.content_bytes)
    assert read_record(settled) == copied
    b"".join(tar_of(settled))  # which verifies it
    overlay.add()
    assert without_sockets(overlay.again(tree)) == without_sockets(shown)


def test_what_is_no_part_of_the_layer_is_removed(overlay):
    overlay.add(lambda: put("etc/passwd"))

    def write():
        os.close(os.open("etc/passwd", os.O_RDWR))
        put("etc/hosts", "")
        put("proc/x/y", "mounted")
        shutil.rmtree("proc/x")
        put("kept")

    overlay.add(write)

    target, _ = settle(overlay, own=("/proc", "/etc/hosts"))

    assert [os.path.relpath(p, f"{target}/diff") for p, _, _ in os.walk(f"{target}/diff")] == ["."]
    assert os.listdir(f"{target}/diff") == ["kept"]


def test_times_after_the_newest_one_are_that_in_the_tar_and_on_the_disk(overlay):
    overlay.add(lambda: put("a"))

    def write():
        put("d/new")
        put("old")
        os.utime("old", (5, 5))
        os.symlink("x", "link")

    overlay.add(write)
    newest = 1_000_000 * 10**9

    target, _ = settle(overlay, newest_ns=newest)

    times = {name: os.lstat(f"{target}/diff/{name}").st_mtime_ns for name in ("d", "d/new", "link", "old")}
    assert times == {"d": newest, "d/new": newest, "link": newest, "old": 5 * 10**9}
    b"".join(tar_of(target))


def test_a_name_that_is_a_mark_of_layers_is_refused_and_nothing_is_left(overlay):
    overlay.add(lambda: put("a"))
    overlay.add(lambda: put(".wh.a"))

    with pytest.raises(InvalidInput, match="marks of what is deleted"):
        settle(overlay)

    assert not (overlay.directory / "layer").exists()


@settings(max_examples=10, deadline=None)
@given(actions, actions, actions)
def test_layers_squashed_show_what_they_showed(tmp_path_factory, first, second, third):
    overlay = Overlay(tmp_path_factory.mktemp("o"))
    overlay.add(populate)
    for things in (first, second, third):
        overlay.add(lambda things=things: perform(things))
    shown = overlay.again(tree)
    target = str(overlay.directory / "squashed")

    composing.squash(messages.Squash(target=target, layers=tuple(overlay.layers), count=2))

    b"".join(tar_of(target))
    (overlay.directory / "nothing").mkdir()
    overlay.layers[:2] = [f"{target}/diff", str(overlay.directory / "nothing")]  # as many as there were
    overlay.add()
    assert whole_seconds(without_sockets(overlay.again(tree))) == whole_seconds(without_sockets(shown))


def whole_seconds(shown):
    return {path: (*told[:6], told[6] // 10**9, *told[7:]) for path, told in shown.items()}
