"""Causes that are limits of setrlimit(2), and those of the host that look alike. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sampan.spec.docker.why import Cause

if TYPE_CHECKING:
    from sampan.engine.causes_told import Told

FILES = re.compile(r"too many open files|\bE[MN]FILE\b", re.IGNORECASE)
LENGTH = re.compile(r"file too large|file size limit exceeded|\bEFBIG\b", re.IGNORECASE)
TIME = re.compile(r"cpu time limit exceeded", re.IGNORECASE)
PROCESSES = re.compile(
    r"resource temporarily unavailable|can't start new thread|unable to create (?:new )?native thread|"
    r"pthread_create failed|failed to create new OS thread|\bEAGAIN\b",
    re.IGNORECASE,
)
_FORKS = re.compile(r"fork|thread|process|clone|spawn", re.IGNORECASE)
_SAYS = {
    "cpu": "it has used all the processor time that its ulimit allows",
    "fsize": "it wrote a file longer than its ulimit allows",
}


def by_signal(told: Told, name: str, signal: str) -> Cause:
    """Return the cause where the kernel sent what it sends at this limit."""
    return Cause(
        kind="ulimit",
        said=f"{signal}: {_SAYS[name]}",
        facts=tuple(filter(None, [_given(told, name)])),
        fixes=(_higher(told, name),),
    )


def files(told: Told) -> Cause:
    """Tell of files that it could not open."""
    line = told.line.lower()
    if "inotify" in line:
        return told.cause(
            "ulimit",
            "it wanted one more inotify instance than this host gives to a user",
            fix="on the host: sysctl -w fs.inotify.max_user_instances=1024",
        )
    if "in system" in line or "enfile" in line:
        return told.cause(
            "ulimit",
            "this host has no file handle left",
            fix="find what has so many: cat /proc/sys/fs/file-nr; then sysctl -w fs.file-max=…",
        )
    default = "no --ulimit nofile was given, so it has the limit that sampan was started with"
    return told.cause(
        "ulimit",
        "it had as many files open as it may",
        _given(told, "nofile") or default,
        fix=_higher(told, "nofile"),
    )


def length(told: Told) -> Cause:
    """Tell of a file that became too long."""
    if told.ulimit("fsize") is None:
        return told.cause("file-too-long", "a file became longer than its filesystem allows")
    return told.cause("ulimit", _SAYS["fsize"], _given(told, "fsize"), fix=_higher(told, "fsize"))


def time(told: Told) -> Cause:
    """Tell of processor time that is used up."""
    return told.cause("ulimit", _SAYS["cpu"], _given(told, "cpu"), fix=_higher(told, "cpu"))


def processes(told: Told) -> Cause | None:
    """Tell of a process or thread that it did not get; the limit of its control group is counted, and told by that."""
    if not _FORKS.search(told.line):
        return None
    what = "it got no other process or thread"
    if told.ulimit("nproc"):
        return told.cause("ulimit", what, _given(told, "nproc"), fix=_higher(told, "nproc"))
    return told.cause(
        "ulimit",
        what,
        "its limit of processes, --pids-limit, has refused it none: a ulimit or this host did",
        fix="run it with a higher --ulimit nproc=…, and look at kernel.threads-max and kernel.pid_max of the host",
    )


def memory(told: Told) -> tuple[str, str]:
    """Return which ulimit of memory it has, and how it gets more; "" for none."""
    name = next((name for name in ("data", "memlock", "stack") if told.ulimit(name)), "")
    return (_given(told, name), _higher(told, name)) if name else ("", "")


def _given(told: Told, name: str) -> str:
    limit = told.ulimit(name)
    return f"it runs with --ulimit {name}={limit[0]}:{limit[1]}" if limit else ""


def _higher(told: Told, name: str) -> str:
    limit = told.ulimit(name)
    if limit is None:
        return f"run it with a higher --ulimit {name}=…"
    soft, hard = limit
    return f"run it with --ulimit {name}={2 * soft}:{-1 if hard < 0 else max(2 * soft, hard)}"
