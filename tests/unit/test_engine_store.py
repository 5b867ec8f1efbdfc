"""Intent on disk."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from sampan.engine.migrations import MIGRATIONS
from sampan.engine.store import ContainerRow, Store, VolumeRow
from sampan.errors import Failed


def row(id: str, name: str | None = None, created_ns: int = 0) -> ContainerRow:
    return ContainerRow(id, name or id, created_ns, "sha256:1", "busybox", b"{}", b"[]", b"{}")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state.db")


@pytest.fixture
def store(path: str):
    found = Store(path)
    yield found
    found.close()


def test_what_was_added_is_there_after_opening_again(store: Store, path: str) -> None:
    store.add(row("b", created_ns=2), b"spec", [VolumeRow("v", 1, True, b"{}")])
    store.add(row("a", created_ns=1), b"", [])
    store.set_state("b", b'{"status":"running"}')
    store.set_name("b", "web")

    again = Store(path)
    assert [c.id for c in again.containers()] == ["a", "b"]
    assert again.containers()[1] == row("b", "web", 2)._replace(state=b'{"status":"running"}')
    assert again.spec("b") == b"spec"
    assert [v.name for v in again.volumes()] == ["v"]
    again.close()


def test_a_commit_is_on_the_disk_when_it_returns(store: Store) -> None:
    settings = {n: store._db.execute(f"PRAGMA {n}").fetchone()[0] for n in ("journal_mode", "synchronous")}

    assert settings == {"journal_mode": "wal", "synchronous": 2}


def test_a_container_is_added_whole_or_not_at_all(store: Store) -> None:
    store.add(row("a", "web"), b"", [])

    with pytest.raises(Failed, match="can't write the state"):
        store.add(row("b", "web"), b"", [VolumeRow("v", 1, False, b"{}")])
    assert [c.id for c in store.containers()] == ["a"]
    assert store.volumes() == []
    store.add(row("b"), b"", [])


def test_what_is_deleted_is_gone(store: Store) -> None:
    store.add(row("a"), b"", [VolumeRow("v", 1, False, b"{}")])

    store.delete("a")
    store.delete_volume("v")

    assert store.containers() == []
    assert store.volumes() == []
    assert store.spec("a") is None


def test_the_exit_of_what_removed_itself_is_remembered(store: Store) -> None:
    store.add(row("a"), b"", [])
    store.add(row("b"), b"", [])

    store.delete("a", 7)
    store.delete("b")

    assert store.containers() == []
    assert store.last_exit("a") == 7
    assert store.last_exit("b") is None


def test_the_record_of_what_removed_itself_is_found_by_name_and_id(store: Store) -> None:
    for id in ("abc", "abd"):
        store.add(row(id, "web"), b"", [])
        store.delete(id, 7, name="web", record=id.encode())

    assert store.removed("web") == b"abd"
    assert store.removed("abc") == b"abc"
    assert store.removed("ab") == b"abd"
    assert store.removed("we") is None
    assert store.removed("") is None


def test_a_state_of_a_newer_version_is_left_alone(path: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")

    with pytest.raises(Failed, match=r"can't open the state .*it has version"):
        Store(path)


def test_what_is_no_database_is_said_to_be_none(path: str) -> None:
    Path(path).write_bytes(b"not a database, surely" * 100)

    with pytest.raises(Failed, match="can't open the state"):
        Store(path)


def test_threads_may_write_at_once(store: Store) -> None:
    threads = [threading.Thread(target=store.add, args=(row(f"c{i}"), b"", [])) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(store.containers()) == 8
