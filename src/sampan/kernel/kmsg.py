"""The kernel's log, /dev/kmsg; Documentation/ABI/testing/dev-kmsg."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST = 8192


def open_log() -> int:
    """Open it at its oldest record."""
    return os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def records(fd: int) -> Iterator[bytes]:
    """Yield the records that have not been read: `priority,number,microseconds since boot,flags;text`.

    What the kernel has overwritten meanwhile is passed over.
    """
    while True:
        try:
            record = os.read(fd, _LONGEST)
        except BlockingIOError:
            return
        except OSError as e:
            if e.errno == errno.EPIPE:
                continue
            raise
        if not record:
            return
        yield record
