"""What steps of builds have made: layers by the steps' keys, in SQLite beside the images.

A row holds its layer: `diff_ids` are what the image store must not remove. Rows are written when their layer is there,
so what was finished before a crash is found after it; but a machine that went down takes those along whose files were
not on the disk yet. A cache is worth no failing start: one that can't be read is begun anew.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from sampan.build import selections, why
from sampan.build.keys import Facts, parent_id
from sampan.errors import Failed
from sampan.image.layers import boot_id
from sampan.spec.decoding import decode_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sampan.build.keys import Key
    from sampan.dirs import Dirs
    from sampan.image.layers import Pins

_VERSION = 1
_SCHEMA = """
CREATE TABLE step (
    key TEXT PRIMARY KEY,
    diff_id TEXT NOT NULL,             -- '' where it made no files
    size INTEGER NOT NULL,             -- bytes of the layer's regular files
    parent TEXT NOT NULL,              -- the content below, '' for one that stands alone
    content TEXT NOT NULL,             -- the content with its layer
    instruction TEXT NOT NULL,
    facts BLOB NOT NULL,               -- JSON
    created_ns INTEGER NOT NULL,
    used_ns INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    unsynced TEXT                      -- the boot in which its layer was written; NULL once it is on the disk
) STRICT;
CREATE INDEX step_by_parent ON step (parent);
CREATE INDEX step_by_instruction ON step (instruction);
CREATE INDEX step_by_diff_id ON step (diff_id);
"""
_NEAR = 20
"""How many of the newest of one parent or instruction a miss is compared with."""


class Hit(msgspec.Struct, frozen=True):
    """What is there for a key: the layer is pinned. `diff_id` is "" where the step changes no files."""

    diff_id: str
    size: int
    created_ns: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A row, as `builder du` tells it."""

    key: str
    diff_id: str
    size: int
    parent: str
    content: str
    instruction: str
    created_ns: int
    used_ns: int
    uses: int

    @property
    def id(self) -> str:
        """What people call it by: as long as BuildKit's."""
        return self.key.removeprefix("sha256:")[:25]


class Cache:
    """The steps of one instance. Used from any thread."""

    def __init__(self, dirs: Dirs) -> None:
        self._directory = dirs.build
        self._path = f"{self._directory}/cache.db"
        self._lock = threading.Lock()
        os.makedirs(f"{self._directory}/selections", mode=0o700, exist_ok=True)
        self._db = self._open()
        self._held = Counter(diff_id for (diff_id,) in self._db.execute("SELECT diff_id FROM step"))
        self._used: dict[str, int] = {}

    def close(self) -> None:
        """Write down what was used, and close the file."""
        with suppress(Failed):
            self.settle()
        with self._lock:
            self._db.close()

    @property
    def selections(self) -> str:
        """The directory in which selections of files are told, each in a file named by its digest."""
        return f"{self._directory}/selections"

    def find(self, key: str, pins: Pins) -> Hit | None:
        """Return what is there for a key, with its layer pinned."""
        with self._lock:
            row = self._db.execute("SELECT diff_id, size, created_ns FROM step WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        hit = Hit(*row)
        if hit.diff_id and pins.add(hit.diff_id) is None:  # it is damaged, or somebody removed it by hand
            self.remove((key,))
            return None
        with self._lock:
            self._used[key] = time.time_ns()
        return hit

    def keep(self, key: Key, hit: Hit, layers: Sequence[str]) -> None:
        """Put down what a step made; its layer is there and pinned. `layers` are all from then on, lowest first."""
        now = time.time_ns()
        facts = msgspec.json.encode(key.facts)
        row = (key.id, hit.diff_id, hit.size, key.facts.parent, parent_id(layers), key.facts.instruction, facts)
        with self._transaction():
            old = self._db.execute("SELECT diff_id FROM step WHERE key = ?", (key.id,)).fetchone()
            self._db.execute(
                "INSERT OR REPLACE INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)",
                (*row, hit.created_ns, now, boot_id()),
            )
            self._held.subtract(old or ())
            self._held[hit.diff_id] += 1

    def why(self, key: Key) -> str:
        """Say why nothing was found for a key: the first thing that differs from the nearest that is there."""
        with self._lock:
            rows = self._db.execute(
                "SELECT facts FROM step WHERE key != ? AND (parent = ? OR instruction = ?)"
                " ORDER BY used_ns DESC LIMIT ?",
                (key.id, key.facts.parent, key.facts.instruction, _NEAR),
            ).fetchall()
        known = [decode_json(facts, Facts) for (facts,) in rows]
        nearest = why.nearest(key.facts, known)
        if nearest is None:
            return why.NEVER
        return why.difference(nearest, key.facts, lambda digest: selections.read(self.selections, digest))

    def records(self) -> tuple[Record, ...]:
        """Every row, the one that was not used for longest first."""
        self.settle()
        with self._lock:
            rows = self._db.execute(
                "SELECT key, diff_id, size, parent, content, instruction, created_ns, used_ns, uses FROM step"
                " ORDER BY used_ns"
            ).fetchall()
        names = Record.__struct_fields__
        return tuple(Record(**dict(zip(names, row, strict=True))) for row in rows)

    def remove(self, keys: Collection[str]) -> tuple[str, ...]:
        """Forget steps; return the layers that no other row holds."""
        freed: list[str] = []
        with self._transaction():
            for key in keys:
                row = self._db.execute("SELECT diff_id FROM step WHERE key = ?", (key,)).fetchone()
                if row is None:
                    continue
                self._db.execute("DELETE FROM step WHERE key = ?", (key,))
                self._held[row[0]] -= 1
                if row[0] and not self._held[row[0]]:
                    freed.append(row[0])
        return tuple(freed)

    def drop_selections(self) -> None:
        """Remove the lists of files that no row's facts name any more, less those that are just being made."""
        with self._lock:
            rows = self._db.execute("SELECT facts FROM step").fetchall()
        needed = {digest for (facts,) in rows for _, digest in decode_json(facts, Facts).files}
        selections.keep_only(self.selections, needed)

    # ------------------------------------------------------------------------ what the image store asks of its keepers

    def diff_ids(self) -> frozenset[str]:
        """The layers that rows hold."""
        with self._lock:
            return frozenset(diff_id for diff_id, count in self._held.items() if diff_id and count > 0)

    def synced(self, until_ns: int) -> None:
        """Put down that all layers written before this moment are on the disk."""
        with self._transaction():
            self._db.execute("UPDATE step SET unsynced = NULL WHERE unsynced IS NOT NULL AND used_ns < ?", (until_ns,))

    def settle(self) -> None:
        """Write down when what was used: once a build, not once a step."""
        with self._lock:
            used, self._used = self._used, {}
        if used:
            with self._transaction():
                self._db.executemany(
                    "UPDATE step SET used_ns = ?, uses = uses + 1 WHERE key = ?",
                    [(ns, key) for key, ns in used.items()],
                )

    # ------------------------------------------------------------------------------------------------------ the file

    def _open(self) -> sqlite3.Connection:
        try:
            return self._opened()
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(self._path + suffix)
        try:
            return self._opened()
        except sqlite3.Error as e:
            raise Failed(f"can't open {self._path}: {e}", "is the disk full?") from e

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=10)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            # Without a sync at each step: what a power cut takes is built again.
            db.execute("PRAGMA synchronous = NORMAL")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}")
            if version == 0:
                db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
            db.execute("DELETE FROM step WHERE unsynced != ?", (boot_id(),))
        except BaseException:
            db.close()
            raise
        return db

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    yield
            except sqlite3.Error as e:
                raise Failed(f"can't write down what was built: {e}", "is the disk full?") from e
