"""What sampan remembers of a container's life: the part of its record that changes."""

from __future__ import annotations

import enum

import msgspec

from sampan.spec.ending import Ending
from sampan.spec.network import Endpoint, PublishedPort

VERSION = 1
"""Of the form below. A newer form only adds fields with defaults, so that the version before still reads it."""


class Status(enum.StrEnum):
    """Docker's words for where in its life a container is."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class Probe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run of a container's health check. `exit_code` -1: it took too long."""

    start_ns: int = 0
    end_ns: int = 0
    exit_code: int = 0
    output: str = ""


class Startup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often the startup check has ended in which way in this run."""

    successes: int = 0
    failures: int = 0


class Health(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a container is by its check: `status` is starting, healthy or unhealthy; `log` has the latest probes."""

    status: str = "starting"
    failing_streak: int = 0
    log: tuple[Probe, ...] = ()
    startup: Startup = Startup()


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One moment of a container's life, replaced as a whole at each change. Times are nanoseconds since 1970."""

    version: int = VERSION
    status: Status = Status.CREATED
    pid: int = 0  # as the host sees it; 0: none
    start_time: int = 0  # in clock ticks since boot: with the pid, names a process for good
    started_at_ns: int = 0
    finished_at_ns: int = 0
    exit_code: int = 0
    exit_unknown: bool = False  # nobody could see how it ended
    oom_killed: bool = False
    error: str = ""  # why the last start failed
    stopped_by_user: bool = False
    again: bool = False  # it is being ended, to be started again, by sampan itself
    restart_count: int = 0
    thaw: bool = False  # it is frozen for a commit only: a server that finds it so lets it go on
    health: Health | None = None  # None: nothing is checked
    ending: Ending | None = None  # the latest one, or of its start that failed
    endpoints: tuple[Endpoint, ...] = ()  # its places on networks while it runs, eth0 first
    ports: tuple[PublishedPort, ...] = ()  # that it publishes while it runs

    @property
    def alive(self) -> bool:
        """Whether its processes exist: running or paused."""
        return self.status in (Status.RUNNING, Status.PAUSED)

    @property
    def active(self) -> bool:
        """Whether its processes exist, or will again by themselves."""
        return self.alive or self.status is Status.RESTARTING


class Volume(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A local volume: a directory under volumes/NAME/_data, or with `options` what they name, as mount(8) has it."""

    name: str
    created_ns: int
    anonymous: bool = False
    labels: dict[str, str] = {}
    options: dict[str, str] = {}  # type, device, o
