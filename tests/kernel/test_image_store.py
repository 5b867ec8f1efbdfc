"""The image store: names, removal, and what a crash leaves."""

import contextlib
import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from sampan import dirs
from sampan.errors import Conflict, Failed, InvalidInput, NotFound, SampanError
from sampan.image import archive
from sampan.image.history import history
from sampan.image.store import Images
from sampan.image.unpack import unpack_layer
from sampan.rootfs import host
from sampan.spec.image import ExecutionConfig, Removal, Use
from sampan.spec.reference import Reference
from support.image_store import add, layers_of, nobody, opened, sha256, tarball, wait_until_synced


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


def test_an_imported_image_is_found_by_all_its_names(images):
    made = add(images, "app:1", a=b"x")

    for name in ("app:1", "docker.io/library/app:1", made.id, made.id[7:], made.id[7:19], made.id[:15]):
        assert images.resolve(name).id == made.id
    assert made.repo_tags == ("app:1",)
    assert made.size == 1


@pytest.mark.parametrize(
    ("name", "message"), [("nope", "No such image: nope:latest"), ("sha256:" + "0" * 64, "No such image: sha256:0000")]
)
def test_an_unknown_image_is_named_in_dockers_words(images, name, message):
    with pytest.raises(NotFound, match=message):
        images.resolve(name)


def test_a_beginning_that_fits_two_ids_names_none(images):
    ids = [add(images, None, a=b"%d" % number).id for number in range(17)]
    first = next(digit for digit in "0123456789abcdef" if sum(id[7] == digit for id in ids) > 1)

    with pytest.raises(NotFound):
        images.resolve(first)


def test_the_platform_must_fit(images):
    add(images, "app", a=b"")

    with pytest.raises(NotFound, match=r"does not match the specified platform \(linux/s390x\)"):
        images.resolve("app", "linux/s390x")


def test_an_imported_image_has_configuration_message_and_history(images):
    made = archive.import_tarball(
        images, io.BytesIO(gzip.compress(tarball(a=b"xyz"))), ref=None, unpack=unpack_layer,
        execution=ExecutionConfig(cmd=("/a",), env=("A=b",)), message="from me",
    )  # fmt: skip

    assert made.config.execution.cmd == ("/a",)
    assert made.config.execution.env == ("A=b",)
    (row,) = history(made)
    assert (row.id, row.size, row.comment) == (made.id, 3, "from me")
    assert row.created > 1_600_000_000
    config = json.loads(made.raw_config)
    assert config["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{sha256(tarball(a=b'xyz'))}"]}
    assert made.id == f"sha256:{sha256(made.raw_config)}"


def test_a_name_moves_to_the_newer_image(images):
    old = add(images, "app", a=b"1")
    new = add(images, "app", a=b"2")

    assert images.resolve("app").id == new.id
    assert images.resolve(old.id).repo_tags == ()
    assert [image.id for image in images.list()] == [new.id, old.id, images.resolve("host").id]


def test_tagging_gives_another_name(images):
    made = add(images, "app", a=b"")

    images.tag(made, Reference.parse("other:2"))

    assert images.resolve("other:2").repo_tags == ("app:latest", "other:2")
    with pytest.raises(InvalidInput, match="digest reference"):
        images.tag(made, Reference.parse(f"x@{made.id}"))


def test_removal_follows_docker_and_takes_the_layers(images, where):
    made = add(images, "app:1", a=b"1")
    images.tag(made, Reference.parse("app:2"))

    assert images.remove("app:1", nobody) == (Removal("Untagged", "app:1"),)
    assert images.remove("app:2", nobody) == (
        Removal("Untagged", "app:2"),
        Removal("Deleted", made.id),
        Removal("Deleted", made.diff_ids[0], 1),
    )
    assert layers_of(where) == set()
    assert os.listdir(f"{where.images}/blobs/sha256") == []


def made_from(images, parent, name=None):
    """Add an image with one more step in its history and the layers of `parent`."""
    config = json.loads(parent.raw_config)
    config["history"].append({"created_by": f"LABEL name={name}", "empty_layer": True})
    names = [Reference.parse(name)] if name else []
    return images.add(json.dumps(config).encode(), tags=names)


def test_a_parent_without_a_name_goes_with_its_last_child(images, where):
    base = add(images, "base", a=b"1")
    middle = made_from(images, base)
    first, second = made_from(images, middle, "first"), made_from(images, middle, "second")

    assert images.remove("base", nobody) == (Removal("Untagged", "base:latest"),)
    assert images.remove("first", nobody) == (Removal("Untagged", "first:latest"), Removal("Deleted", first.id))
    assert images.remove("second", nobody) == (
        Removal("Untagged", "second:latest"),
        Removal("Deleted", second.id),
        Removal("Deleted", middle.id),
        Removal("Deleted", base.id),
        Removal("Deleted", base.diff_ids[0], 1),
    )
    assert layers_of(where) == set()


def test_a_parent_stays_where_it_is_asked_for_named_or_used(images):
    base = add(images, "base", a=b"1")
    uses = {base.id: [Use("c" * 64, running=False)]}

    images.remove(made_from(images, base, "child").id, nobody)
    assert images.resolve("base").id == base.id
    child = made_from(images, base, "child")
    images.remove("base", nobody)
    images.remove("child", nobody, no_prune=True)
    assert images.resolve(base.id).repo_tags == ()
    images.remove(made_from(images, base, "child").id, lambda image_id: uses.get(image_id, ()))
    assert images.resolve(base.id).id == base.id
    assert images.remove(base.id, nobody)[0] == Removal("Deleted", base.id)
    with pytest.raises(NotFound):
        images.resolve(child.id)


def test_a_parent_can_be_deleted_by_its_id_and_the_child_keeps_its_layers(images, where):
    base = add(images, "base", a=b"1")
    child = made_from(images, base, "child")

    assert images.remove(base.id, nobody) == (Removal("Untagged", "base:latest"), Removal("Deleted", base.id))
    assert images.resolve("child").id == child.id
    assert layers_of(where) == set(child.diff_ids)


def test_an_image_that_runs_loses_its_last_name_by_force_and_stays(images):
    made = add(images, "app", a=b"1")

    assert images.remove("app", lambda _: [Use("c" * 64, running=True)], force=True) == (
        Removal("Untagged", "app:latest"),
    )
    assert images.resolve(made.id).repo_tags == ()


def test_a_layer_that_two_images_have_stays_until_both_are_gone(images, where):
    first, second = add(images, "a", x=b"1"), add(images, "b", x=b"1")
    assert first.diff_ids == second.diff_ids

    images.remove("a", nobody)
    assert layers_of(where) == set(second.diff_ids)
    images.remove("b", nobody)
    assert layers_of(where) == set()


def test_layers_of_a_stopped_container_outlive_their_image(images, where):
    made = add(images, "app", a=b"1")
    uses = [Use("c" * 64, running=False)]

    removed = images.remove("app", lambda _: uses, force=True)

    assert Removal("Deleted", made.id) in removed
    with pytest.raises(NotFound):
        images.resolve(made.id)
    assert layers_of(where) == set(made.diff_ids)
    images.collect(lambda _: uses)
    assert layers_of(where) == set(made.diff_ids)
    uses.clear()
    images.collect(lambda _: uses)
    assert layers_of(where) == set()


def test_the_host_image_is_always_there(images):
    found = images.resolve("host")

    assert found.host
    assert found.repo_tags == ("host:latest",)
    assert found.id == host.image("x86_64").id
    with pytest.raises(Conflict, match="it is built in"):
        images.remove("host", nobody)
    with pytest.raises(InvalidInput, match="built-in"):
        add(images, "host", a=b"")
    images.tag(found, Reference.parse("mine"))
    assert images.resolve("mine").host
    assert images.remove("mine", nobody) == (Removal("Untagged", "mine:latest"),)


def test_the_store_is_the_same_after_a_restart(images, where):
    made = add(images, "app", a=b"1")

    again = Images(where)

    assert again.resolve("app") == images.resolve("app")
    assert again.resolve("app").diff_ids == made.diff_ids
    wait_until_synced(where)
    again.close()


def test_the_same_layer_is_unpacked_once_however_many_ask(images, where):
    data = tarball(a=b"x" * 1000)
    diff_id = f"sha256:{sha256(data)}"
    calls = []

    def unpack(target):
        calls.append(target)
        time.sleep(0.05)
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        try:
            return unpack_layer(reading, target)
        finally:
            os.close(reading)

    def ask():
        with images.layers.working() as pins:
            pins.add(diff_id)
            with images.layers.making(diff_id) as here, images.layers.scratch() as target:
                record = here or images.layers.keep(target, diff_id, unpack(target))
            assert record.diff_id == diff_id

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(calls) == 1


def test_a_failed_import_leaves_nothing(images, where):
    with pytest.raises(SampanError, match="can't import: can't unpack layer"):
        archive.import_tarball(images, io.BytesIO(b"no tar" * 1000), ref=Reference.parse("x"), unpack=unpack_layer)

    assert layers_of(where) == set()
    assert images.list() == (images.resolve("host"),)


def test_an_image_that_is_made_while_its_layers_are_removed_has_them(images):
    """The layers that a removal found unused may be another image's by the time that they are removed."""
    end = threading.Event()

    def remove():
        while not end.is_set():
            with contextlib.suppress(NotFound):
                images.remove("app", nobody)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for _ in range(200):
            add(images, "app", a=b"1")
            with images._lock:
                missing = [d for image in images.list() for d in image.diff_ids if images.layers.find(d) is None]
            assert missing == []
    finally:
        end.set()
        remover.join()


CRASH = """
import io, os, sys
from sampan import dirs
from sampan.image import archive
from sampan.image.store import Images
from sampan.image.unpack import unpack_layer
from sampan.spec.reference import Reference
count, left = 0, int(sys.argv[2])
def tracer(frame, event, arg):
    global left
    if "/image/" not in frame.f_code.co_filename:
        return None
    if event == "line":
        left -= 1
        if not left:
            os.kill(os.getpid(), 9)
    return tracer
images = Images(dirs.find(sys.argv[1]))
with open(sys.argv[3], "rb") as file:
    sys.settrace(tracer)
    if sys.argv[4] == "import":
        archive.import_tarball(images, file, ref=Reference.parse("new"), unpack=unpack_layer)
    else:
        images.remove("old", lambda _: ())
"""


@pytest.mark.parametrize("step", [*range(1, 40, 13), *range(60, 600, 60)])
@pytest.mark.parametrize("verb", ["import", "remove"])
def test_a_kill_at_any_step_leaves_nothing_after_the_next_start(where, tmp_path, verb, step):
    before = opened(where)
    old = add(before, "old", a=b"old")
    wait_until_synced(where)
    before.close()
    (tmp_path / "new.tar").write_bytes(tarball(b=b"new"))

    subprocess.run(
        [sys.executable, "-c", CRASH, where.root, str(step), str(tmp_path / "new.tar"), verb], check=False, timeout=60
    )

    after = opened(where)
    assert after.sweep(nobody) == ()
    found = {image.repo_tags: image for image in after.list() if not image.host}
    assert layers_of(where) == {diff_id for image in found.values() for diff_id in image.diff_ids}
    assert {f"sha256:{name}" for name in os.listdir(f"{where.images}/blobs/sha256")} == {i.id for i in found.values()}
    assert os.listdir(where.tmp) == []
    if verb == "import":
        assert found[("old:latest",)].id == old.id
    wait_until_synced(where)
    after.close()


def test_an_image_with_a_damaged_part_is_taken_out_with_a_word(where):
    before = opened(where)
    bad, good = add(before, "bad", a=b"1"), add(before, "good", b=b"2")
    worse = add(before, "worse", c=b"3")
    wait_until_synced(where)
    before.close()
    with open(f"{where.layer(bad.diff_ids[0])}/layer.json", "r+b") as file:
        file.truncate(5)
    with open(f"{where.images}/blobs/sha256/{worse.id[7:]}", "r+b") as file:
        file.truncate(5)

    after = opened(where)
    said = after.sweep(nobody)

    assert sorted(line.split(":")[0] for line in said) == ["image bad", "image worse"]
    assert [image.id for image in after.list() if not image.host] == [good.id]
    assert layers_of(where) == set(good.diff_ids)
    after.close()


def test_layers_that_were_not_on_the_disk_when_the_machine_went_down_are_not_trusted(where):
    before = opened(where)
    add(before, "lost", a=b"1")
    add(before, "kept", b=b"2")
    wait_until_synced(where)
    before.close()
    with sqlite3.connect(f"{where.images}/images.db") as database:
        database.execute(
            "UPDATE image SET unsynced = 'another boot' WHERE id = (SELECT image FROM name WHERE name LIKE '%/lost:%')"
        )
    database.close()

    after = opened(where)
    (said,) = after.sweep(nobody)

    assert said.startswith("image lost:latest is gone: the machine went down")
    assert [image.repo_tags for image in after.list() if not image.host] == [("kept:latest",)]
    after.close()


def test_a_newer_stores_database_is_refused(where):
    opened(where).close()
    with sqlite3.connect(f"{where.images}/images.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()

    with pytest.raises(Failed, match="newer sampan"):
        opened(where)
