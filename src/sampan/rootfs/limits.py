"""How much a container may write: its directories are a project of their own, of which the filesystem keeps count."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sampan.errors import Unsupported
from sampan.kernel import quota
from sampan.kernel.mount import mountinfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THERE = frozenset((errno.ESRCH, errno.ENOSYS, errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL))
_NO_RECORD = frozenset((errno.ENOENT, errno.ESRCH))
_TRIES = 100


def set_limit(directories: Sequence[str], limit_bytes: int) -> None:
    """Let all that will be written in these new directories together take so much. Raises Unsupported."""
    opened = [os.open(directory, _OPEN) for directory in directories]
    try:
        number = _unused(opened[0])
        for fd in opened:
            quota.set_project(fd, number)
        quota.limit(opened[0], number, limit_bytes)
    except OSError as e:
        if e.errno not in _NOT_THERE:
            raise
        raise _unsupported(directories[0]) from e
    finally:
        for fd in opened:
            os.close(fd)


def _unused(fd: int) -> int:
    """Return the number of a project that has neither files nor a limit."""
    for _ in range(_TRIES):
        number = int.from_bytes(os.urandom(4)) >> 1 | 1 << 30  # away from the small ones that people choose
        try:
            found = quota.quota(fd, number)
        except OSError as e:
            if e.errno not in _NO_RECORD:
                raise
            return number  # xfs: no record; where nothing is counted, setting the limit says so
        if found == quota.Quota(0, 0):
            return number
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _unsupported(path: str) -> Unsupported:
    device = os.stat(path).st_dev
    type = next((m.fstype for m in mountinfo() if os.makedev(*m.device) == device), "its filesystem")
    return Unsupported(
        "--storage-opt is supported only for overlay over xfs with 'pquota' mount option, and ext4 with 'prjquota': "
        f"{os.path.dirname(path)} is on {type} without",
        {
            "ext4": "tune2fs -O project,quota -Q prjquota DEVICE while it is not mounted, then mount it with prjquota",
            "xfs": "mount it with pquota",
        }.get(type, "keep the store on one of these: --root, SAMPAN_ROOT"),
    )


@contextmanager
def lifted(directory: str) -> Iterator[None]:
    """Take the limit of a directory away behind the block, in which it is removed."""
    try:
        fd = os.open(directory, _OPEN)
    except OSError:  # it has none
        yield
        return
    try:
        number = 0
        with suppress(OSError):  # a filesystem that knows no projects
            number = quota.project(fd)
        yield
        if number:
            with suppress(OSError):  # nothing is counted any more
                quota.limit(fd, number, 0)
    finally:
        os.close(fd)
