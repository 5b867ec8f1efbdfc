"""What the store knows of blobs: which are which layer, where they are, and for how long it knows that."""

import gzip
import hashlib
import io
import json
import os
import sqlite3
import time

import pytest

from sampan import dirs
from sampan.errors import Failed
from sampan.image import archive
from sampan.image.recipe import tar_of
from sampan.image.unpack import unpack_layer
from sampan.spec.distribution import Descriptor
from sampan.spec.image import BlobFact
from sampan.spec.reference import Reference
from support.image_store import add, nobody, opened, tarball, wait_until_synced

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def where(tmp_path):
    return dirs.find(str(tmp_path / "root"))


@pytest.fixture
def images(where):
    store = opened(where)
    yield store
    wait_until_synced(where)
    store.close()


def descriptor(blob):
    return Descriptor(media_type=GZIP, digest=digest(blob), size=len(blob))


def pulled(images, name, layer, *, came_as=None, origin="registry/app", keep_blob=False):
    """What a pull does: unpack what is not here, then add the image by a manifest that names gzipped layers."""
    blob = gzip.compress(layer, mtime=0)
    with images.working() as pins:
        pins.add(digest(layer))
        with images.layers.making(digest(layer)) as here:
            if here is None:
                with images.layers.scratch() as target:
                    images.layers.keep(target, digest(layer), unpacked(came_as or blob, target, keep_blob))
        config = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}, "author": name})
        manifest = {
            "schemaVersion": 2,
            "config": {"mediaType": "x", "digest": digest(config.encode()), "size": len(config)},
            "layers": [{"mediaType": GZIP, "digest": digest(blob), "size": len(blob)}],
        }
        return images.add(
            config.encode(), manifest=json.dumps(manifest).encode(), tags=(Reference.parse(name),), origin=origin
        ), blob


def unpacked(data, target, keep_blob):
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    try:
        return unpack_layer(reading, target, keep_blob=keep_blob)
    finally:
        os.close(reading)


LAYER = tarball(a=b"content")


def test_a_blob_that_was_unpacked_is_known_with_where_it_came_from(images):
    _, blob = pulled(images, "first", LAYER)
    pulled(images, "second", LAYER, origin="registry/other")

    assert images.blobs_of(digest(LAYER)) == (
        BlobFact(
            digest=digest(blob), diff_id=digest(LAYER), size=len(blob), media_type=GZIP,
            origins=("registry/other", "registry/app"),
        ),
    )  # fmt: skip


def test_a_manifest_alone_does_not_make_a_blob_known(images):
    """The layer was here from an archive; that a registry's blob is the same one, only its manifest says."""
    pulled(images, "app", LAYER, came_as=LAYER)

    assert images.blobs_of(digest(LAYER)) == ()


def test_what_was_packed_and_pushed_is_known(images):
    made = add(images, "app", a=b"1")
    blob = descriptor(b"as it was packed")

    images.note_blob(made.diff_ids[0], blob, "registry/app")
    images.note_blob(made.diff_ids[0], blob, "other/app")
    images.note_blob("sha256:" + "0" * 64, descriptor(b"of no layer"), "registry/app")

    (fact,) = images.blobs_of(made.diff_ids[0])
    assert (fact.digest, fact.origins) == (blob.digest, ("other/app", "registry/app"))
    assert images.blobs_of("sha256:" + "0" * 64) == ()


def test_blobs_are_forgotten_with_the_last_image_that_has_the_layer(images):
    pulled(images, "first", LAYER)
    pulled(images, "second", LAYER)

    images.remove("first", nobody)
    assert len(images.blobs_of(digest(LAYER))) == 1
    images.remove("second", nobody)
    assert images.blobs_of(digest(LAYER)) == ()


def test_when_an_image_was_used_is_known_at_once_and_after_a_restart(where):
    before = opened(where)
    made = add(before, "app", a=b"1")
    wait_until_synced(where)
    begun = time.time_ns()

    before.used(made.id)
    before.used("sha256:" + "0" * 64)
    seen = before.resolve("app").last_used_ns
    before.tag(made, Reference.parse("other"))
    assert before.resolve("app").last_used_ns == seen
    before.close()

    after = opened(where)
    assert after.resolve("app").last_used_ns == seen >= begun
    assert after.resolve("host").last_used_ns == 0
    after.close()


def test_indexes_that_are_being_made_are_kept_by_name(where):
    before = opened(where)
    name = Reference.parse("app:1")
    before.keep_list(name, b"one")
    before.keep_list(name, b"two")
    before.close()

    after = opened(where)
    assert after.lists() == {"docker.io/library/app:1": b"two"}
    assert after.drop_list(name)
    assert not after.drop_list(name)
    assert after.lists() == {}
    after.close()


def test_a_blob_is_kept_with_its_layer_where_that_is_wanted(where, images):
    _, blob = pulled(images, "app", LAYER, keep_blob=True)

    with images.open_blob(digest(blob)) as file:
        assert file.read() == blob
    assert images.open_blob(digest(LAYER)) is None
    images.remove("app", nobody)
    assert images.open_blob(digest(blob)) is None
    assert os.listdir(f"{where.layers}/sha256") == []


def test_a_blob_is_not_kept_unasked_nor_beside_the_tar_that_it_is(where, images):
    pulled(images, "first", LAYER)
    other = tarball(b=b"x")
    pulled(images, "second", other, came_as=other, keep_blob=True)

    for layer in (LAYER, other):
        assert sorted(os.listdir(where.layer(digest(layer)))) == ["diff", "layer.json", "recipe"]


def make_older(where, diff_id):
    """Turn a store into one of version 1: without blobs, and layers without recipes."""
    with sqlite3.connect(f"{where.images}/images.db") as database:
        database.executescript(
            "DROP TABLE origin; DROP TABLE blob; DROP TABLE list; ALTER TABLE image DROP COLUMN last_used_ns;"
            "PRAGMA user_version = 1"
        )
    database.close()
    layer = where.layer(diff_id)
    os.unlink(f"{layer}/recipe")
    with open(f"{layer}/layer.json") as file:
        record = json.load(file)
    del record["blob"]
    with open(f"{layer}/layer.json", "w") as file:
        json.dump(record, file)


def test_a_store_of_version_1_goes_on_and_says_what_its_layers_lack(where):
    before = opened(where)
    made = add(before, "app", a=b"1")
    wait_until_synced(where)
    before.close()
    make_older(where, made.diff_ids[0])

    after = opened(where)

    assert after.sweep(nobody) == ()
    assert after.resolve("app").id == made.id
    with pytest.raises(Failed, match="unpacked by a version that did not keep") as caught:
        list(tar_of(where.layer(made.diff_ids[0])))
    assert caught.value.hint == "pull or load its image again"
    after.close()


def test_to_load_an_image_again_completes_a_layer_of_version_1(where):
    data = tarball(a=b"old", b=b"x")
    before = opened(where)
    made = archive.import_tarball(before, io.BytesIO(data), ref=Reference.parse("app"), unpack=unpack_layer)
    wait_until_synced(where)
    before.close()
    make_older(where, made.diff_ids[0])
    inode = os.stat(where.layer(made.diff_ids[0]) + "/diff/a").st_ino

    after = opened(where)
    with after.layers.working() as pins:
        assert pins.add(made.diff_ids[0]) is None
    archive.import_tarball(after, io.BytesIO(data), ref=None, unpack=unpack_layer)

    assert b"".join(tar_of(where.layer(made.diff_ids[0]))) == data
    assert os.stat(where.layer(made.diff_ids[0]) + "/diff/a").st_ino == inode  # containers may be running from it
    assert os.listdir(where.tmp) == []
    wait_until_synced(where)
    after.close()


def test_to_pull_an_image_again_completes_a_layer_of_version_1(where):
    before = opened(where)
    pulled(before, "app", LAYER)
    wait_until_synced(where)
    before.close()
    make_older(where, digest(LAYER))

    after = opened(where)
    pulled(after, "app", LAYER)

    assert b"".join(tar_of(where.layer(digest(LAYER)))) == LAYER
    wait_until_synced(where)
    after.close()
