"""Intent on disk: SQLite, written by the server alone. One commit for a verb; the rest of the engine reads memory.

What the kernel and the shims can tell (is it running, how did it end) is fact and lives with them; `engine.reconcile`
brings the two together after a crash.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from sampan.engine.migrations import MIGRATIONS
from sampan.errors import Failed, doing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_REMEMBERED_NS = 600 * 10**9
_ADD_VOLUME = "INSERT OR IGNORE INTO volumes VALUES (?, ?, ?, ?, ?)"


class ContainerRow(NamedTuple):
    """A container as it is kept. `body`, `mounts` and `state` are JSON."""

    id: str
    name: str
    created_ns: int
    image_id: str
    image_name: str
    body: bytes
    mounts: bytes
    state: bytes


class VolumeRow(NamedTuple):
    """A volume as it is kept. `labels` and `options` are JSON."""

    name: str
    created_ns: int
    anonymous: bool
    labels: bytes
    options: bytes = b"{}"


class NetworkRow(NamedTuple):
    """A network as it is kept. `document` is the JSON of a `spec.network.Network`."""

    id: str
    name: str
    created_ns: int
    document: bytes


class SecretRow(NamedTuple):
    """A secret as it is kept, but for its data. `labels` is JSON."""

    id: str
    name: str
    created_ns: int
    updated_ns: int
    labels: bytes


class Store:
    """The database of one instance. Every method is one transaction, durable at its return; any thread may call it."""

    def __init__(self, path: str) -> None:
        """Open or make the database, and bring its schema up to date."""
        self._lock = threading.Lock()
        with doing(f"can't open the state {path}"):
            try:
                self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=32)
                self._prepare()
            except sqlite3.Error as e:
                raise Failed(str(e), "the disk may be full or the file damaged") from e

    def _prepare(self) -> None:
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._migrate()
        except BaseException:
            self._db.close()
            raise

    def _migrate(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise Failed(
                f"it has version {version} and this sampan knows {len(MIGRATIONS)}",
                "a newer sampan has used this root: use that one, or another --root",
            )
        for number in range(version, len(MIGRATIONS)):
            self._db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version={number + 1}; COMMIT;")

    def close(self) -> None:
        """Close it; what was committed stays."""
        with self._lock:
            self._db.close()

    def _run(self, sql: str, values: Iterable[object] = ()) -> None:
        with self._lock:
            try:
                self._db.execute(sql, tuple(values))
            except sqlite3.Error as e:
                raise Failed(f"can't write the state: {e}", "is the disk full?") from e

    def _all(self, sql: str, values: Iterable[object] = ()) -> list[tuple[object, ...]]:
        with self._lock:
            try:
                return self._db.execute(sql, tuple(values)).fetchall()
            except sqlite3.Error as e:
                raise Failed(f"can't read the state: {e}") from e

    # -- containers

    def containers(self) -> list[ContainerRow]:
        """Return all of them, oldest first."""
        rows = self._all(
            "SELECT id, name, created_ns, image_id, image_name, body, mounts, state FROM containers ORDER BY created_ns"
        )
        return [ContainerRow(*row) for row in rows]  # type: ignore[arg-type]

    def add(self, row: ContainerRow, spec: bytes, volumes: Iterable[VolumeRow] = ()) -> None:
        """Write a container down before anything is made for it, with the volumes that it brings."""
        with self._transaction("can't write the state"):
            self._db.executemany(_ADD_VOLUME, volumes)
            self._db.execute("INSERT INTO containers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, spec))

    @contextmanager
    def _transaction(self, what: str) -> Iterator[None]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except sqlite3.Error as e:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise Failed(f"{what}: {e}", "is the disk full?") from e

    def set_state(self, id: str, state: bytes) -> None:
        """Replace the changing part."""
        self._run("UPDATE containers SET state = ? WHERE id = ?", (state, id))

    def set_name(self, id: str, name: str) -> None:
        """Rename."""
        self._run("UPDATE containers SET name = ? WHERE id = ?", (name, id))

    def set_body(self, id: str, body: bytes, state: bytes | None = None, *, spec: bytes | None = None) -> None:
        """Replace what was asked for: its networks, its ports or, with what follows from them in `spec`, its limits."""
        self._run(
            "UPDATE containers SET body = ?, state = coalesce(?, state), spec = coalesce(?, spec) WHERE id = ?",
            (body, state, spec, id),
        )

    def spec(self, id: str) -> bytes | None:
        """Return the OCI configuration as it was made at creation."""
        rows = self._all("SELECT spec FROM containers WHERE id = ?", (id,))
        return rows[0][0] if rows else None  # type: ignore[return-value]

    def delete(self, id: str, exit_code: int | None = None, *, name: str = "", record: bytes | None = None) -> None:
        """Forget a container; with an exit code, remember that for a while: see `last_exit` and `removed`."""
        if exit_code is None:
            self._run("DELETE FROM containers WHERE id = ?", (id,))
            return
        now = time.time_ns()
        with self._transaction("can't write the state"):
            self._db.execute("DELETE FROM containers WHERE id = ?", (id,))
            self._db.execute("DELETE FROM exits WHERE removed_ns < ?", (now - _REMEMBERED_NS,))
            self._db.execute("INSERT OR REPLACE INTO exits VALUES (?, ?, ?, ?, ?)", (id, exit_code, now, name, record))

    def last_exit(self, id: str) -> int | None:
        """Return how a container ended that removed itself some minutes ago at most.

        Its client may have lost a server before it was told, and asks the next one.
        """
        rows = self._all("SELECT code FROM exits WHERE id = ?", (id,))
        return rows[0][0] if rows else None  # type: ignore[return-value]

    def removed(self, ref: str) -> bytes | None:
        """Return the record of a container that removed itself some minutes ago at most, by name or an id's beginning.

        Of several, the latest.
        """
        rows = self._all(
            "SELECT record FROM exits WHERE record IS NOT NULL AND (name = ? OR substr(id, 1, ?) = ?) "
            "ORDER BY removed_ns DESC LIMIT 1",
            (ref, len(ref), ref),
        )
        return rows[0][0] if ref and rows else None  # type: ignore[return-value]

    # -- volumes

    def volumes(self) -> list[VolumeRow]:
        """Return all of them."""
        rows = self._all("SELECT name, created_ns, anonymous, labels, options FROM volumes ORDER BY name")
        return [VolumeRow(*row) for row in rows]  # type: ignore[arg-type]

    def add_volume(self, row: VolumeRow) -> None:
        """Write a volume down."""
        self._run(_ADD_VOLUME, row)

    def delete_volume(self, name: str) -> None:
        """Forget a volume."""
        self._run("DELETE FROM volumes WHERE name = ?", (name,))

    # -- networks

    def networks(self) -> list[NetworkRow]:
        """Return all of them, oldest first."""
        rows = self._all("SELECT id, name, created_ns, document FROM networks ORDER BY created_ns")
        return [NetworkRow(*row) for row in rows]  # type: ignore[arg-type]

    def add_network(self, row: NetworkRow) -> None:
        """Write a network down."""
        self._run("INSERT INTO networks VALUES (?, ?, ?, ?)", row)

    def delete_network(self, id: str) -> None:
        """Forget a network."""
        self._run("DELETE FROM networks WHERE id = ?", (id,))

    # -- secrets

    def secrets(self) -> list[SecretRow]:
        """Return all of them."""
        rows = self._all("SELECT id, name, created_ns, updated_ns, labels FROM secrets")
        return [SecretRow(*row) for row in rows]  # type: ignore[arg-type]

    def put_secret(self, row: SecretRow) -> None:
        """Write a secret down, in place of the one that has its name."""
        self._run("INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?, ?)", row)

    def delete_secret(self, id: str) -> None:
        """Forget a secret."""
        self._run("DELETE FROM secrets WHERE id = ?", (id,))
