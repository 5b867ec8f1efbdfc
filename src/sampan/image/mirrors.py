"""Which mirrors are out of order: they are left out for a minute, lest every request waits for them."""

from __future__ import annotations

import time

_RESTS_S = 60.0

_until: dict[str, float] = {}  # by host; of the monotonic clock. For all threads of the process


def is_resting(host: str) -> bool:
    """Tell whether a host failed less than a minute ago."""
    return _until.get(host, 0) > time.monotonic()


def rest(host: str) -> None:
    """Leave a host alone for a minute."""
    _until[host] = time.monotonic() + _RESTS_S


def forget() -> None:
    """Ask all of them again."""
    _until.clear()
