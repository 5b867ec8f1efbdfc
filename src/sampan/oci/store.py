"""Containers on disk: ROOT/ID/, one directory each, which is made by `create` and goes with `delete`.

    state.json      what is known of it; replaced as a whole
    config.json     the configuration as it was given, for `exec`
    gate            the socket at which its first process waits for `start`; there from `create` until `start`

Whether a container runs is nowhere written down: the kernel is asked (`Record.status`). A directory without a
state.json is what a killed `create` has left, and `delete --force` removes it.
"""

from __future__ import annotations

import fcntl
import os
import time

from sampan.client.jsontext import dumps, loads
from sampan.errors import Conflict, Failed, InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

VERSION = 1
GATE = "gate"
_STATE, _CONFIG = "state.json", "config.json"
_LOCKED_WITHIN_S = 10.0
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_LONGEST_ID = 1024


class Record:
    """One container: what state.json says, and what the kernel does."""

    __slots__ = ("facts", "store")

    def __init__(self, store: Store, facts: dict[str, Any]) -> None:
        self.store = store
        self.facts = facts

    @property
    def id(self) -> str:
        id: str = self.facts["id"]
        return id

    @property
    def pid(self) -> int:
        pid: int = self.facts["pid"]
        return pid

    @property
    def cgroups(self) -> tuple[tuple[str, str], ...]:
        return tuple((controller, directory) for controller, directory in self.facts["cgroups"])

    @property
    def directory(self) -> str:
        return f"{self.store.root}/{self.id}"

    @property
    def alive(self) -> bool:
        """Whether its first process is there, and is the one that was made: pids are used again."""
        made: int = self.facts["startTime"]
        return self.pid > 0 and start_time(self.pid) == made

    @property
    def status(self) -> str:
        """Say creating, created, running, paused or stopped."""
        if self.facts["pid"] == 0:
            return "creating" if self._being_made() else "stopped"
        if not self.alive:
            return "stopped"
        if frozen(self.cgroups):
            return "paused"
        return "created" if os.path.exists(f"{self.directory}/{GATE}") else "running"

    def _being_made(self) -> bool:
        maker: int = self.facts["maker"]
        began: int = self.facts["makerStartTime"]
        return start_time(maker) == began

    def pidfd(self) -> int:
        """Open its first process, or raise Conflict where it has ended."""
        try:
            fd = os.pidfd_open(self.pid) if self.pid > 0 else -1
        except ProcessLookupError:
            fd = -1
        if fd < 0 or not self.alive:
            if fd >= 0:
                os.close(fd)
            raise Conflict(f"container {self.id} is not running")
        return fd

    def config(self) -> bytes:
        """Return the configuration that it was made from."""
        with open(f"{self.directory}/{_CONFIG}", "rb", buffering=0) as file:
            return file.readall()

    def change(self, **facts: object) -> None:
        """Write other facts, all or none of them."""
        self.facts |= facts
        write(self.directory, _STATE, dumps(self.facts).encode())

    def lock(self) -> int:
        """Wait until nobody else changes this container; the lock goes with the descriptor.

        What the one before has changed is known then; where that was to remove it, raise NotFound.
        """
        fd = self.lock_new()
        try:
            self.facts = self.store.find(self.id).facts
            if not os.path.samestat(os.fstat(fd), os.stat(self.directory)):
                raise NotFound(f"container does not exist: {self.id}", "it was deleted meanwhile, and made again")
        except BaseException:
            os.close(fd)
            raise
        return fd

    def lock_new(self) -> int:
        """Lock a container that is being made, of which nothing is written yet."""
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"container does not exist: {self.id}", "it was deleted meanwhile") from None
        deadline = time.monotonic() + _LOCKED_WITHIN_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(fd)
                    raise Conflict(f"container {self.id} is in use by another command") from None
            time.sleep(0.005)


class Store:
    """All containers below one root."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def reserve(self, id: str, config: bytes, facts: dict[str, Any]) -> tuple[Record, int]:
        """Take an id: (its record, the lock on it). Raise Conflict where a container has it."""
        check_id(id)
        os.makedirs(self.root, 0o711, exist_ok=True)
        directory = f"{self.root}/{id}"
        try:
            os.mkdir(directory, 0o711)
        except FileExistsError:
            raise Conflict(
                f"container with id exists: {id}", f"choose another id, or: sampan-runtime delete {id}"
            ) from None
        me = os.getpid()
        process = {"pid": 0, "startTime": 0, "maker": me, "makerStartTime": start_time(me)}
        record = Record(self, {"version": VERSION, "id": id, **process, **facts})
        lock = record.lock_new()
        write(directory, _CONFIG, config)
        record.change()
        return record, lock

    def find(self, id: str) -> Record:
        """Return a container's record; raise NotFound."""
        check_id(id)
        try:
            return Record(self, read(f"{self.root}/{id}/{_STATE}"))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"container does not exist: {id}", f"{self.root} has none of this id") from None

    def matching(self, id: str, *, regex: bool) -> list[Record]:
        """Return the containers that an argument means: the one of this id, or those whose id the expression finds."""
        if not regex:
            return [self.find(id)]
        import re

        return [record for record in self.all() if re.search(id, record.id)]

    def all(self) -> Iterator[Record]:
        """Yield every container; one that goes meanwhile is none."""
        try:
            names = sorted(os.listdir(self.root))
        except FileNotFoundError:
            return
        for name in names:
            try:
                yield Record(self, read(f"{self.root}/{name}/{_STATE}"))
            except (FileNotFoundError, NotADirectoryError):
                continue

    def forget(self, id: str) -> None:
        """Remove a container's directory."""
        directory = f"{self.root}/{id}"
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            return
        # The state last: without it the id is nobody's, but still taken.
        for name in sorted(names, key=lambda n: n == _STATE):
            try:
                os.unlink(f"{directory}/{name}")
            except FileNotFoundError:
                continue
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return


def check_id(id: str) -> None:
    """Refuse an id that could not be a directory's name."""
    if not id:
        raise InvalidInput("container id cannot be empty")
    if id in (".", "..") or not set(id) <= _LETTERS or len(id) > _LONGEST_ID:
        raise InvalidInput(f"invalid container id format: {id[:80]!r}", "letters, digits and _ + - . make an id")


def read(path: str) -> dict[str, Any]:
    """Read a state.json."""
    with open(path, "rb", buffering=0) as file:
        text = file.readall()
    try:
        facts: dict[str, Any] = loads(text)
        if facts["version"] > VERSION:
            raise Failed(f"can't read {path}: a newer version of sampan wrote it")
    except (ValueError, KeyError, TypeError):
        raise Failed(f"can't read {path}: it is damaged", "delete --force removes what is left") from None
    return facts


def write(directory: str, name: str, content: bytes, mode: int = 0o600) -> None:
    """Put a file in its place whole; who reads at the same time sees the one before."""
    path = f"{directory}/.{name}.{os.getpid()}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
    os.rename(path, f"{directory}/{name}")


def start_time(pid: int) -> int:
    """Return when a living process began, in clock ticks since boot; 0 where there is none, or only its remains."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            stat = file.readall()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = stat[stat.rindex(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def frozen(cgroups: tuple[tuple[str, str], ...]) -> bool:
    """Whether the container's processes stand still, or are about to."""
    if not cgroups:
        return False
    from sampan.runtime import control

    try:
        return control.frozen(cgroups)
    except FileNotFoundError:
        return False
