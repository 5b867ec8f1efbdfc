"""What builds keep from one to the next: rows, the layers they hold, and what is said of a miss."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sampan.build import selections
from sampan.build.cache import Cache, Hit
from sampan.build.keys import Facts, Key, digest
from sampan.dirs import Dirs
from sampan.image.layers import Layers
from sampan.spec.image import LayerRecord

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.fixture
def dirs(tmp_path: Path) -> Dirs:
    return Dirs(str(tmp_path / "root"), str(tmp_path / "run"))


_OPEN: list[Cache] = []


def opened(dirs: Dirs) -> Cache:
    _OPEN.append(Cache(dirs))
    return _OPEN[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _OPEN:
        _OPEN.pop().close()


@pytest.fixture
def layers(dirs: Dirs) -> Layers:
    layers = Layers(dirs)
    for diff_id in (ONE, TWO):
        directory = Path(dirs.layer(diff_id))
        directory.mkdir(parents=True)
        record = LayerRecord(diff_id=diff_id, tar_bytes=1024, content_bytes=7)
        (directory / "layer.json").write_bytes(msgspec.json.encode(record))
        (directory / "recipe").write_bytes(b"")
    return layers


def a_key(name: str, **facts) -> Key:
    given = {"instruction": "RUN make", "parent": "p", "below": "FROM debian", "values": ()} | facts
    return Key(id=digest(name), facts=Facts(**given))


def test_what_was_kept_is_found_by_its_key_and_its_layer_is_pinned(dirs: Dirs, layers: Layers) -> None:
    cache = opened(dirs)
    cache.keep(a_key("a"), Hit(ONE, 7, 1000), (ONE,))

    with layers.working() as pins:
        assert cache.find(a_key("a").id, pins) == Hit(ONE, 7, 1000)
        assert cache.find(a_key("b").id, pins) is None
        assert not layers.remove(ONE)


def test_a_row_survives_a_server_that_was_killed(dirs: Dirs, layers: Layers) -> None:
    opened(dirs).keep(a_key("a"), Hit(ONE, 7, 1000), (ONE,))

    with layers.working() as pins:
        assert opened(dirs).find(a_key("a").id, pins) == Hit(ONE, 7, 1000)


def test_a_row_whose_layer_is_gone_is_a_miss_and_forgotten(dirs: Dirs, layers: Layers) -> None:
    cache = opened(dirs)
    cache.keep(a_key("a"), Hit(ONE, 7, 1000), (ONE,))
    layers.remove(ONE)

    with layers.working() as pins:
        assert cache.find(a_key("a").id, pins) is None
    assert cache.records() == ()


def test_a_layer_is_held_until_its_last_row_goes(dirs: Dirs) -> None:
    cache = opened(dirs)
    for name in ("a", "b"):
        cache.keep(a_key(name), Hit(ONE, 7, 1000), (ONE,))

    assert cache.remove((a_key("a").id,)) == ()
    assert cache.diff_ids() == {ONE}
    assert cache.remove((a_key("b").id,)) == (ONE,)
    assert cache.diff_ids() == frozenset()


def test_a_step_that_was_made_again_holds_its_new_layer_only(dirs: Dirs) -> None:
    cache = opened(dirs)
    cache.keep(a_key("a"), Hit(ONE, 7, 1000), (ONE,))
    cache.keep(a_key("a"), Hit(TWO, 7, 1000), (TWO,))

    assert cache.diff_ids() == opened(dirs).diff_ids() == {TWO}


def test_a_step_without_files_holds_no_layer(dirs: Dirs, layers: Layers) -> None:
    cache = opened(dirs)
    cache.keep(a_key("a"), Hit("", 0, 1000), (ONE,))

    with layers.working() as pins:
        assert cache.find(a_key("a").id, pins) == Hit("", 0, 1000)
    assert cache.diff_ids() == frozenset()


def test_uses_are_counted_once_a_build(dirs: Dirs, layers: Layers) -> None:
    cache = opened(dirs)
    cache.keep(a_key("a"), Hit(ONE, 7, 1000), (ONE,))
    with layers.working() as pins:
        cache.find(a_key("a").id, pins)

    (record,) = cache.records()
    assert record.uses == 2
    assert record.used_ns > record.created_ns


def test_what_another_boot_wrote_is_gone_unless_it_was_seen_onto_the_disk(dirs: Dirs) -> None:
    cache = opened(dirs)
    cache.keep(a_key("seen"), Hit(ONE, 7, 1000), (ONE,))
    cache.synced(1 << 62)
    cache.keep(a_key("torn"), Hit(TWO, 7, 1000), (TWO,))
    cache.close()
    with sqlite3.connect(f"{dirs.build}/cache.db") as db:
        db.execute("UPDATE step SET unsynced = 'another boot' WHERE unsynced IS NOT NULL")
    db.close()

    assert opened(dirs).diff_ids() == {ONE}


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
def test_a_file_that_cannot_be_read_or_is_newer_is_begun_anew(dirs: Dirs, content: bytes | None) -> None:
    cache = opened(dirs)
    cache.keep(a_key("a"), Hit(ONE, 7, 1000), (ONE,))
    cache.close()
    if content is None:
        with sqlite3.connect(f"{dirs.build}/cache.db") as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    else:
        Path(f"{dirs.build}/cache.db").write_bytes(content)

    assert opened(dirs).records() == ()


def test_a_miss_is_explained_by_the_nearest_row(dirs: Dirs) -> None:
    cache = opened(dirs)
    cache.keep(a_key("a", values=(("the user", ""),)), Hit(ONE, 7, 1000), (ONE,))
    cache.keep(a_key("b", parent="q", below="FROM x"), Hit(ONE, 7, 1000), (ONE,))

    assert cache.why(a_key("c", values=(("the user", "me"),))) == "the user differs: me, it was nothing"
    assert cache.why(a_key("d", parent="z", instruction="RUN x")) == "nothing like it is in the cache"


def test_a_miss_for_a_file_names_it(dirs: Dirs) -> None:
    cache = opened(dirs)
    selections.write(cache.selections, "sha256:aa", [("x", "1"), ("y\n", "1")])
    selections.write(cache.selections, "sha256:bb", [("x", "1"), ("y\n", "2")])
    cache.keep(a_key("a", files=(("", "sha256:aa"),)), Hit(ONE, 7, 1000), (ONE,))

    assert cache.why(a_key("b", files=(("", "sha256:bb"),))) == "the file y  has changed"


def test_lists_of_files_go_with_the_last_row_that_names_them(dirs: Dirs) -> None:
    cache = opened(dirs)
    for name in ("aa", "bb"):
        selections.write(cache.selections, f"sha256:{name}", [("x", "1")])
        cache.keep(a_key(name, files=(("", f"sha256:{name}"),)), Hit(ONE, 7, 1000), (ONE,))
    for entry in Path(cache.selections).iterdir():
        os.utime(entry, (0, 0))
    cache.remove((a_key("aa").id,))
    cache.drop_selections()

    assert selections.read(cache.selections, "sha256:aa") is None
    assert selections.read(cache.selections, "sha256:bb") == {"x": "1"}
