"""images.db: which images there are, what they are called, which layers they have."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_VERSION = 1
_SCHEMA = """
CREATE TABLE image (
    id TEXT PRIMARY KEY,               -- digest of the configuration
    manifest TEXT,                     -- digest of the manifest as it came, if one came
    hidden INTEGER NOT NULL DEFAULT 0, -- removed by force while a stopped container is made of it
    unsynced TEXT                      -- the boot in which its layers were written; NULL once they are on the disk
) STRICT;
CREATE TABLE layer (
    image TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (image, position)
) STRICT;
CREATE INDEX layer_by_diff_id ON layer (diff_id);
CREATE TABLE name (
    name TEXT PRIMARY KEY,             -- registry/repository:tag or registry/repository@digest
    image TEXT NOT NULL,               -- may be a built-in one, which has no row
    named_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX name_by_image ON name (image);
"""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One image."""

    id: str
    manifest: str | None
    hidden: bool
    unsynced: str | None
    layers: tuple[tuple[str, int], ...]  # (diff id, size), lowest first


class Database:
    """One connection; its user holds a lock around every call. Each method is one transaction."""

    def __init__(self, path: str) -> None:
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._migrate(path)
        except sqlite3.DatabaseError as e:
            raise Failed(f"can't open {path}: {e}", "the disk may be full, or the file damaged") from e

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def rows(self) -> list[Row]:
        """Every image, hidden ones too."""
        layers: dict[str, list[tuple[str, int]]] = {}
        for image, diff_id, size in self._db.execute("SELECT image, diff_id, size FROM layer ORDER BY image, position"):
            layers.setdefault(image, []).append((diff_id, size))
        return [
            Row(id=id, manifest=manifest, hidden=bool(hidden), unsynced=unsynced, layers=tuple(layers.get(id, ())))
            for id, manifest, hidden, unsynced in self._db.execute("SELECT id, manifest, hidden, unsynced FROM image")
        ]

    def names(self) -> list[tuple[str, str, int]]:
        """(name, image, when it was given in ns) of every name."""
        return self._db.execute("SELECT name, image, named_ns FROM name ORDER BY name").fetchall()

    def add(self, row: Row, names: Sequence[str], now_ns: int) -> None:
        """Make an image exist, and give it names that others may have had."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO image (id, manifest, unsynced) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET hidden = 0, manifest = coalesce(excluded.manifest, manifest), unsynced = excluded.unsynced",
                (row.id, row.manifest, row.unsynced),
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO layer (image, position, diff_id, size) VALUES (?, ?, ?, ?)",
                [(row.id, position, *layer) for position, layer in enumerate(row.layers)],
            )
            self._name(row.id, names, now_ns)

    def name(self, id: str, names: Sequence[str], now_ns: int) -> None:
        """Give an image names that others may have had."""
        with self._transaction():
            self._name(id, names, now_ns)

    def remove(self, id: str, names: Sequence[str], *, delete: bool, hide: bool = False) -> None:
        """Take names away, and with `delete` the image too; with `hide` its row stays, because its layers must."""
        with self._transaction():
            self._db.executemany("DELETE FROM name WHERE name = ? AND image = ?", [(name, id) for name in names])
            if hide:
                self._db.execute("UPDATE image SET hidden = 1 WHERE id = ?", (id,))
            elif delete:
                self._db.execute("DELETE FROM image WHERE id = ?", (id,))

    def synced(self, ids: Sequence[str]) -> None:
        """Put down that these images' layers are on the disk."""
        with self._transaction():
            self._db.executemany("UPDATE image SET unsynced = NULL WHERE id = ?", [(id,) for id in ids])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield
        except sqlite3.Error as e:
            raise Failed(f"can't write down what images there are: {e}", "is the disk full?") from e

    def _name(self, id: str, names: Sequence[str], now_ns: int) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO name (name, image, named_ns) VALUES (?, ?, ?)",
            [(name, id, now_ns) for name in names],
        )

    def _migrate(self, path: str) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise Failed(f"can't use {path}: it was written by a newer sampan (version {version})", "upgrade sampan")
        if version == 0:
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
