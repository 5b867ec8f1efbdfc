"""The standard error of keeper, server and shims is a file, on a disk that may be full: nobody dies of a lost word."""

from __future__ import annotations

import io
import os
import sys


class Log(io.TextIOBase):
    """Writes to descriptor 2 what can be written there."""

    def write(self, text: str, /) -> int:
        """Write it at once, or not at all."""
        try:
            os.write(2, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass
        return len(text)

    def fileno(self) -> int:
        """Return the descriptor."""
        return 2


def use_log() -> None:
    """Have this process, and those that it forks, write to its log without being hurt by it."""
    sys.stderr = sys.stdout = Log()
