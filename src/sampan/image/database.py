"""images.db: which images there are, what they are called, which layers they have, and where those were seen.

A layer is kept as files; its compressed form, the blob, is known by digest only. A blob is put down when its content
was seen to be that layer, never because somebody's manifest says so.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Failed
from sampan.spec.image import BlobFact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MIGRATIONS = (
    """
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
""",
    """
ALTER TABLE image ADD COLUMN last_used_ns INTEGER;  -- when a container was last made of it
CREATE TABLE blob (
    digest TEXT PRIMARY KEY,           -- of a layer as it is transferred
    diff_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL
) STRICT;
CREATE INDEX blob_by_diff_id ON blob (diff_id);
CREATE TABLE origin (
    digest TEXT NOT NULL REFERENCES blob (digest) ON DELETE CASCADE,
    repository TEXT NOT NULL,          -- registry/repository that has it, or had
    PRIMARY KEY (digest, repository)
) STRICT;
CREATE TABLE list (
    name TEXT PRIMARY KEY,             -- registry/repository:tag of an index that is made here
    document BLOB NOT NULL
) STRICT;
""",
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One image."""

    id: str
    manifest: str | None
    hidden: bool
    unsynced: str | None
    layers: tuple[tuple[str, int], ...]  # (diff id, size), lowest first
    last_used_ns: int | None = None


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
            Row(
                id=id,
                manifest=manifest,
                hidden=bool(hidden),
                unsynced=unsynced,
                layers=tuple(layers.get(id, ())),
                last_used_ns=used,
            )
            for id, manifest, hidden, unsynced, used in self._db.execute(
                "SELECT id, manifest, hidden, unsynced, last_used_ns FROM image"
            )
        ]

    def names(self) -> list[tuple[str, str, int]]:
        """(name, image, when it was given in ns) of every name."""
        return self._db.execute("SELECT name, image, named_ns FROM name ORDER BY name").fetchall()

    def add(self, row: Row, names: Sequence[str], now_ns: int, blobs: Sequence[BlobFact] = ()) -> None:
        """Make an image exist, and give it names that others may have had; put down its layers' blobs."""
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
            self._note(blobs)

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
                self._db.execute("DELETE FROM blob WHERE diff_id NOT IN (SELECT diff_id FROM layer)")

    def synced(self, ids: Sequence[str]) -> None:
        """Put down that these images' layers are on the disk."""
        with self._transaction():
            self._db.executemany("UPDATE image SET unsynced = NULL WHERE id = ?", [(id,) for id in ids])

    def used(self, times: Mapping[str, int]) -> None:
        """Put down when containers were last made of images, in ns by id."""
        with self._transaction():
            self._db.executemany(
                "UPDATE image SET last_used_ns = ? WHERE id = ?", [(time_ns, id) for id, time_ns in times.items()]
            )

    def blobs(self, diff_id: str | None = None) -> tuple[BlobFact, ...]:
        """The blobs of one layer, or of all, the newest first."""
        origins: dict[str, list[str]] = {}
        for digest, repository in self._db.execute(
            "SELECT digest, repository FROM origin JOIN blob USING (digest) WHERE :layer IS NULL OR diff_id = :layer"
            " ORDER BY origin.rowid DESC",
            {"layer": diff_id},
        ):
            origins.setdefault(digest, []).append(repository)
        rows = self._db.execute(
            "SELECT digest, diff_id, size, media_type FROM blob WHERE :layer IS NULL OR diff_id = :layer"
            " ORDER BY rowid DESC",
            {"layer": diff_id},
        )
        return tuple(
            BlobFact(
                digest=digest,
                diff_id=layer,
                size=size,
                media_type=media_type,
                origins=tuple(origins.get(digest, ())),
            )
            for digest, layer, size, media_type in rows
        )

    def diff_id(self, digest: str) -> str | None:
        """The layer that a blob is known to be."""
        found = self._db.execute("SELECT diff_id FROM blob WHERE digest = ?", (digest,)).fetchone()
        return found[0] if found else None

    def note(self, blob: BlobFact) -> None:
        """Put down a blob of a layer that some image has, and where it is."""
        with self._transaction():
            self._note([blob])

    def lists(self) -> dict[str, bytes]:
        """Every index that is made here, by name."""
        return dict(self._db.execute("SELECT name, document FROM list ORDER BY name").fetchall())

    def keep_list(self, name: str, document: bytes) -> None:
        """Keep an index in the place of one of the same name."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO list (name, document) VALUES (?, ?)", (name, document))

    def drop_list(self, name: str) -> bool:
        """Forget an index; return whether it was there."""
        with self._transaction():
            return self._db.execute("DELETE FROM list WHERE name = ?", (name,)).rowcount > 0

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

    def _note(self, blobs: Sequence[BlobFact]) -> None:
        # Not OR REPLACE, which deletes the old row, and its origins with it.
        self._db.executemany(
            "INSERT INTO blob (digest, diff_id, size, media_type) SELECT ?, diff_id, ?, ? FROM layer"
            " WHERE diff_id = ? ON CONFLICT (digest) DO NOTHING",
            [(blob.digest, blob.size, blob.media_type, blob.diff_id) for blob in blobs],
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO origin (digest, repository) SELECT digest, ? FROM blob WHERE digest = ?",
            [(origin, blob.digest) for blob in blobs for origin in blob.origins],
        )

    def _migrate(self, path: str) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise Failed(f"can't use {path}: it was written by a newer sampan (version {version})", "upgrade sampan")
        for number, migration in enumerate(_MIGRATIONS[version:], version + 1):
            self._db.executescript(f"BEGIN IMMEDIATE; {migration} PRAGMA user_version = {number}; COMMIT;")
