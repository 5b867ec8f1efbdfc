"""This process's open descriptors, where other threads may be closing theirs."""

from __future__ import annotations

import os


def descriptors() -> set[tuple[str, str]]:
    """Return the number of each and what it is: what is in a later set only was opened meanwhile."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
        except FileNotFoundError:  # that of the listing, or one that has just been closed
            continue
    return found
