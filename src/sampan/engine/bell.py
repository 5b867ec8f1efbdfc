"""Waking a thread that polls."""

from __future__ import annotations

import os
import threading


class Bell:
    """What is polled for being woken. Any thread may ring it, also one that comes when it is closed: its number may be
    a client's connection then.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()

    def ring(self) -> None:
        """Wake who polls; nobody if it is closed."""
        with self._lock:
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        """Be polled no more."""
        with self._lock:
            os.close(self.fd)
            self.fd = -1
