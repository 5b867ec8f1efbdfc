"""What RUN --mount=type=cache keeps from build to build: directories of the store, found by their id.

`shared`: any number of RUNs use one at a time. `locked`: one after another. `private`: who comes while it is in use
gets another of the same id, which stays as well.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import doing
from sampan.kernel.trees import remove_tree
from sampan.rootfs.snapshots import tree_bytes
from sampan.spec.decoding import decode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.dirs import Dirs
    from sampan.spec.build import CacheMount

    Fill = Callable[[str], None]  # makes a new directory of this path what the mount begins as

_ABOUT = "about.json"
_DATA = "data"
_STEP_S = 0.5  # how soon one that waits notices that its build was stopped


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one. Times are of the wall clock."""

    name: str
    id: str
    created_ns: int
    used_ns: int
    uses: int
    bytes: int = 0


class CacheMounts:
    """Those of one instance."""

    def __init__(self, dirs: Dirs) -> None:
        self._base = dirs.build_mounts
        self._tmp = dirs.tmp
        self._changed = threading.Condition()
        self._making = threading.Lock()
        self._users: dict[str, int] = {}  # by name
        self._locked: set[str] = set()

    @contextmanager
    def using(self, mount: CacheMount, origin: str, fill: Fill, wanted: Callable[[], None]) -> Iterator[str]:
        """In the block, hold the directory of a mount, made by `fill` if it is new; `origin` names what it begins as.

        `wanted` is called while it is waited for, and raises where it need not be any more.
        """
        key = hashlib.sha256(f"{mount.id}\0{origin}".encode()).hexdigest()
        name = self._take(key, mount.sharing, wanted)
        try:
            self._make(name, mount.id, fill)
            yield f"{self._base}/{name}/{_DATA}"
        finally:
            with self._changed:
                self._users[name] -= 1
                if not self._users[name]:
                    del self._users[name]
                self._locked.discard(name) if mount.sharing != "shared" else None
                self._changed.notify_all()

    def all(self) -> list[About]:
        """Return those that are there, with their sizes."""
        found = []
        for name in sorted(os.listdir(self._base)) if os.path.isdir(self._base) else ():
            about = self._about(name)
            if about is not None:
                found.append(msgspec.structs.replace(about, bytes=tree_bytes(f"{self._base}/{name}/{_DATA}")))
        return found

    def in_use(self, name: str) -> bool:
        """Tell whether a RUN has it mounted."""
        with self._changed:
            return name in self._users

    def remove(self, name: str) -> bool:
        """Remove one, unless it is in use; return whether it is gone."""
        trash = f"{self._tmp}/mount-{name}-{time.monotonic_ns()}"
        with self._changed:
            if name in self._users:
                return False
            try:
                os.rename(f"{self._base}/{name}", trash)
            except FileNotFoundError:
                return False
        remove_tree(trash)
        return True

    def _take(self, key: str, sharing: str, wanted: Callable[[], None]) -> str:
        with self._changed:
            name, number = key, 0
            while name in self._locked or (sharing != "shared" and name in self._users):
                if sharing == "private":
                    number += 1
                    name = f"{key}-{number}"
                else:
                    self._changed.wait(_STEP_S)
                    wanted()
            self._users[name] = self._users.get(name, 0) + 1
            if sharing != "shared":
                self._locked.add(name)
            return name

    def _make(self, name: str, id: str, fill: Fill) -> None:
        now, place = time.time_ns(), f"{self._base}/{name}"
        with self._making, doing(f"can't keep the cache {id}"):
            about = self._about(name)
            if about is None:
                remove_tree(place)
                os.makedirs(place, 0o711)
                fill(f"{place}/{_DATA}")
                about = About(name=name, id=id, created_ns=now, used_ns=now, uses=0)
            about = msgspec.structs.replace(about, used_ns=now, uses=about.uses + 1)
            with open(f"{place}/{_ABOUT}.new", "wb") as file:
                file.write(msgspec.json.encode(about))
            os.rename(f"{place}/{_ABOUT}.new", f"{place}/{_ABOUT}")

    def _about(self, name: str) -> About | None:
        try:
            with open(f"{self._base}/{name}/{_ABOUT}", "rb") as file:
                return decode_json(file.read(), About)
        except (OSError, msgspec.DecodeError):
            return None
