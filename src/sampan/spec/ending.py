"""How a container ended, as facts that shim and server recorded then. What follows from them is `engine.why`'s."""

from __future__ import annotations

import msgspec


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """One form for the shim's message, for the disk and for the API."""


class Sender(Fact, frozen=True, kw_only=True):
    """Who had a signal sent, and by which verb. `pid` 0: nobody called, it was sampan's own doing.

    `program` is the name that the caller's process had, as ps(1) shows it.
    """

    verb: str
    pid: int = 0
    uid: int = 0
    program: str = ""


class Sent(Fact, frozen=True, kw_only=True):
    """A signal that was sent to the container's first process through sampan."""

    number: int
    at_ns: int
    sender: Sender


class Counts(Fact, frozen=True, kw_only=True):
    """What the control groups had counted. Limits are 0 where there is none, or none is known."""

    memory_limit: int = 0  # bytes, as all of memory
    memory_peak: int = 0
    memory_refused: int = 0  # how often it was at its limit; most times the kernel found something to free
    oom_kills: int = 0
    stalled: bool = False  # at its limit, where nothing is killed: who wants more waits
    pids_limit: int = 0
    pids_refused: int = 0  # forks


class OutOfMemory(Fact, frozen=True, kw_only=True):
    """The kernel's record of the process that it killed. `host`: the machine was out of memory, not the container."""

    pid: int
    program: str
    resident: int = 0  # bytes
    host: bool = False


class Forbidden(Fact, frozen=True, kw_only=True):
    """The kernel's record of a process that called what its seccomp filter kills for: a name, or #NUMBER."""

    pid: int
    program: str
    syscall: str


class Crash(Fact, frozen=True, kw_only=True):
    """The kernel's record of a process that did what the processor refuses, in its words."""

    pid: int
    program: str
    said: str


class FullDisk(Fact, frozen=True, kw_only=True):
    """A filesystem that had (nearly) no room. `holds`: what of the container is on it."""

    holds: str
    path: str
    free: int  # bytes
    size: int
    inodes: bool = False  # of which there were none left


class Ending(Fact, frozen=True, kw_only=True):
    """One end of a container, or one start that failed (then `error` says why). Kept until the next."""

    at_ns: int
    started_at_ns: int = 0
    pid: int = 0
    exit_code: int = 0
    unknown: bool = False  # nobody could see it
    signal: int = 0  # which ended the first process; 0: it ended by itself
    core_dumped: bool = False
    sent: tuple[Sent, ...] = ()  # the latest
    counts: Counts | None = None
    out_of_memory: tuple[OutOfMemory, ...] = ()
    forbidden: tuple[Forbidden, ...] = ()
    crashes: tuple[Crash, ...] = ()
    full_disks: tuple[FullDisk, ...] = ()
    error: str = ""
    hint: str = ""
