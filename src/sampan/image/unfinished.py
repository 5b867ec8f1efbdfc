"""Layers that were begun and can be gone on with: each in a directory of its own in tmp/.

    tmp/unpack-KEY-ID/   locked with flock(2) by the worker that unpacks there, as long as it lives
        layer/           what becomes layers/ALGORITHM/HEX
        worker.sock      where a worker whose input has ended too early waits for the rest of it

KEY says which bytes make which layer. With a killed worker its lock is gone too, and its directory is rubbish.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from sampan.kernel.trees import remove_tree

if TYPE_CHECKING:
    from sampan.spec.distribution import Descriptor

LAYER = "layer"
SOCKET = "worker.sock"

_PREFIX = "unpack-"


def key(layer: Descriptor, diff_id: str) -> str:
    """Name what is unpacked: these bytes, as this layer. A false size or diff id in one manifest spoils no other's."""
    return "-".join((_digits(diff_id), _digits(layer.digest), str(layer.size)))


def new_place(tmp: str, key: str) -> str:
    """Make a directory for a layer and return it; its worker will hold it."""
    place = f"{tmp}/{_PREFIX}{key}-{os.urandom(6).hex()}"
    os.mkdir(place, 0o700)
    return place


def hold(place: str) -> int:
    """Lock a layer's directory; return the descriptor that keeps the lock."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_EX)  # somebody may just be looking, `is_held`
    return fd


def is_held(place: str) -> bool:
    """Tell whether a worker lives that unpacks there."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def places(tmp: str, key: str = "") -> list[str]:
    """Return all such directories, held or not, of all layers or of one."""
    return [f"{tmp}/{name}" for name in os.listdir(tmp) if name.startswith(f"{_PREFIX}{key}")]


def held(tmp: str, key: str = "") -> list[str]:
    """Return the directories that workers hold, of all layers or of one; those first that were begun first."""
    found = []
    for place in places(tmp, key):
        if is_held(place):
            try:
                found.append((os.stat(f"{place}/{SOCKET}").st_mtime_ns, place))
            except FileNotFoundError:  # it is just beginning, or ending
                continue
    return [place for _, place in sorted(found)]


def sweep(tmp: str) -> None:
    """Empty tmp/, less what living workers hold."""
    for name in os.listdir(tmp):
        path = f"{tmp}/{name}"
        if not (name.startswith(_PREFIX) and is_held(path)):
            remove_tree(path)


def _digits(digest: str) -> str:
    return digest.partition(":")[2][:32]
