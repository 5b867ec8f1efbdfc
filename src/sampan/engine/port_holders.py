"""Which process has a port of this host: what a conflict is told with. Reads /proc only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTENS = "0A"


def holder(protocol: str, number: int) -> str:
    """Return "nginx (pid 4711)" for who listens there, "" where that can't be seen."""
    inodes = {f"socket:[{inode}]" for inode in _inodes(protocol, number)}
    if not inodes:
        return ""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        if _has_one(pid, inodes):
            return f"{_program(pid)} (pid {pid})"
    return ""


def _inodes(protocol: str, number: int) -> Iterator[str]:
    """Yield the sockets bound to a port, of either version of IP; proc(5), /proc/net/tcp. Of TCP those that listen."""
    for name in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/thread-self/net/{name}") as file:
                rows = [line.split() for line in file][1:]
        except OSError:  # SCTP's has another form; a kernel without IPv6
            continue
        for row in rows:
            if int(row[1].rpartition(":")[2], 16) == number and (protocol != "tcp" or row[3] == _LISTENS):
                yield row[9]


def _has_one(pid: str, sockets: set[str]) -> bool:
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                if os.readlink(f"/proc/{pid}/fd/{fd}") in sockets:
                    return True
            except OSError:
                continue
    except OSError:  # it has ended
        pass
    return False


def _program(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return "a process"
