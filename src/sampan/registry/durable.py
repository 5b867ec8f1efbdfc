"""Files and directories that are whole or not there, and survive a power cut once a function here has returned."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from typing import TYPE_CHECKING

from sampan.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator


_TEMPORARY = re.compile(r"[0-9a-f]{64}")


def is_temporary(name: str) -> bool:
    """Tell whether a file's name is of those that `write` uses."""
    return _TEMPORARY.fullmatch(name) is not None


def make_directory(path: str) -> None:
    """Make a directory and those above it, as far as they are missing."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    make_directory(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    sync_directory(above)


def sync_directory(path: str) -> None:
    """Put a directory's entries on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write(path: str, data: bytes, tmp: str) -> None:
    """Write a file, or replace it; `tmp` is a directory on the same filesystem."""
    temporary = f"{tmp}/{new_id()}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        place(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def place(source: str, path: str) -> None:
    """Give a synced file its name, in a directory that is made if it is missing."""
    directory = os.path.dirname(path)
    make_directory(directory)
    os.rename(source, path)
    sync_directory(directory)


def remove(path: str) -> bool:
    """Remove a file; tell whether it was there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    sync_directory(os.path.dirname(path))
    return True


@contextlib.contextmanager
def locked(path: str, *, shared: bool) -> Iterator[None]:
    """Hold a file's lock, flock(2), against other threads and processes alike."""
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def try_lock(path: str) -> int | None:
    """Take a file's lock for as long as the descriptor lives that is returned; None where another has it."""
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
