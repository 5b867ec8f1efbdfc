"""Secrets: small pieces of data by name, each in a file of root's alone, named by the secret's id."""

from __future__ import annotations

import os
import re
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.engine.core import now_ns
from sampan.engine.store import SecretRow
from sampan.errors import Conflict, InvalidInput, NotFound, doing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.dirs import Dirs
    from sampan.engine.store import Store

ID_LENGTH = 25
_TOO_LARGE = 512_000
_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?")


class Secret(NamedTuple):
    """A secret without its data."""

    id: str
    name: str
    created_ns: int
    updated_ns: int
    labels: Mapping[str, str]


class Secrets:
    """The secrets of this instance: their names in memory and in the store, their data in files only."""

    def __init__(self, dirs: Dirs, store: Store) -> None:
        self._directory = dirs.secrets
        self._store = store
        self._lock = threading.Lock()  # held while one is put, read or removed
        self._known = {row.id: Secret(*row[:-1], msgspec.json.decode(row.labels)) for row in store.secrets()}

    def __iter__(self) -> Iterator[Secret]:
        return iter(tuple(self._known.values()))

    def named(self, name: str) -> Secret | None:
        """Return the secret of a whole name, None where there is none."""
        return next((secret for secret in self if secret.name == name), None)

    def find(self, ref: str) -> Secret:
        """Return the secret of an id, a name, or an id's beginning that only one has; in this order, as Docker."""
        found = self._known.get(ref) or self.named(ref)
        if found:
            return found
        begins = [secret for secret in self if ref and secret.id.startswith(ref)]
        if len(begins) > 1:
            raise InvalidInput(f"secret {ref} is ambiguous ({len(begins)} matches found)", "give more of its digits")
        if not begins:
            raise NotFound(f"secret {ref} not found", "`sampan secret ls` lists them")
        return begins[0]

    def put(self, name: str, data: bytes, labels: Mapping[str, str], *, replace: bool = False) -> tuple[Secret, bool]:
        """Keep a secret of a name that none has; with `replace`, in place of the one that has it: then True, too."""
        _check(name, data)
        with self._lock:
            old, now = self.named(name), now_ns()
            if old and not replace:
                raise Conflict(f"secret {name} already exists", "remove it first, or --replace it")
            secret = Secret(_new_id(), name, old.created_ns if old else now, now, dict(labels))
            self._write(secret, data)
            self._known[secret.id] = secret
            if old:
                del self._known[old.id]
                self._unlink(old.id)
        return secret, old is not None

    def _write(self, secret: Secret, data: bytes) -> None:
        with doing(f"can't keep secret {secret.name}"), ExitStack() as undo:
            os.makedirs(self._directory, 0o700, exist_ok=True)
            undo.callback(self._unlink, secret.id)
            write_private(f"{self._directory}/{secret.id}", data)
            self._store.put_secret(SecretRow(*secret[:-1], msgspec.json.encode(secret.labels)))
            undo.pop_all()

    def read(self, ref: str) -> bytes:
        """Return a secret's data."""
        with self._lock:
            secret = self.find(ref)
            with doing(f"can't read secret {secret.name}"), open(f"{self._directory}/{secret.id}", "rb") as file:
                return file.read()

    def remove(self, ref: str) -> Secret:
        """Remove a secret. Containers keep what they have of it."""
        with self._lock:
            secret = self.find(ref)
            self._store.delete_secret(secret.id)
            del self._known[secret.id]
            self._unlink(secret.id)
        return secret

    def _unlink(self, id: str) -> None:
        try:
            os.unlink(f"{self._directory}/{id}")
        except FileNotFoundError:
            pass

    def sweep(self) -> None:
        """Remove files that no row names: what a crash between file and row, or row and file, left."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return
        for name in names:
            if name not in self._known:
                self._unlink(name)


def _check(name: str, data: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be "
            f"[a-zA-Z0-9]: {name[:80]!r}"
        )
    if not 0 < len(data) < _TOO_LARGE:
        raise InvalidInput(f"secret data must be larger than 0 and less than {_TOO_LARGE} bytes")


def _new_id() -> str:
    return os.urandom(ID_LENGTH).hex()[:ID_LENGTH]


def write_private(path: str, data: bytes) -> None:
    """Write a new file of root's alone; when this returns it survives a power cut."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
