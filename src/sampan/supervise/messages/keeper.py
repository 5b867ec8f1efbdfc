"""What the server asks of the keeper, and what keeper and shims tell each other."""

from __future__ import annotations

from sampan.supervise.messages.base import Message


class ForkShim(Message, frozen=True, kw_only=True, tag="fork-shim"):
    """Fork a shim for container `id`; beside it one descriptor: the shim's end of its first channel."""

    id: str


class ForkWorker(Message, frozen=True, kw_only=True, tag="fork-worker"):
    """Fork a worker; beside it one descriptor: the worker's end of a channel on which it gets one job and answers."""


class Leave(Message, frozen=True, kw_only=True, tag="leave"):
    """Nothing runs and nobody called for a while: the server ends now. `hold`: keep the socket and start a server when
    somebody connects; else the keeper ends too (unless a connection is already waiting, then it starts a server).
    """

    hold: bool = False


class Restart(Message, frozen=True, kw_only=True, tag="restart"):
    """Execute a new server in this one's place: it has been upgraded."""


class Forked(Message, frozen=True, kw_only=True, tag="forked"):
    """The keeper's answer: the child's pid."""

    pid: int


class Reaped(Message, frozen=True, kw_only=True, tag="reaped"):
    """Event from the keeper: a shim it had forked is gone; if its container runs, a new one is in its place."""

    id: str
    pid: int
    status: int  # as waitpid(2) has it; -1: it was no child of this keeper's, nobody could see it
    replaced_by: int | None = None


class Become(Message, frozen=True, kw_only=True, tag="become"):
    """To a shim that was forked ahead of need: be that of `id`. Beside it one descriptor: its first channel."""

    id: str


class Keep(Message, frozen=True, kw_only=True, tag="keep"):
    """A new keeper to a shim that has lost its own: answered with a `Hold` for each process, then `Done`."""


class Hold(Message, frozen=True, kw_only=True, tag="hold"):
    """Keep what is beside it while the process runs: its pidfd, then the duplicates of `streams`, in this order.

    `name` is "" for the container's init, else the exec's id. A shim forked in the place of a killed one gets them.
    """

    name: str
    pid: int
    start_time: int
    streams: tuple[str, ...]  # of stdin, stdout, stderr; or terminal


class Release(Message, frozen=True, kw_only=True, tag="release"):
    """Close the duplicate of one stream of a process, or with `stream` None forget the process."""

    name: str
    stream: str | None = None


class Collected(Message, frozen=True, kw_only=True, tag="collected"):
    """A process whose shim was killed became the keeper's child, and has ended with this status of waitpid(2)."""

    pid: int
    status: int


Messages = (
    ForkShim | ForkWorker | Leave | Restart | Forked | Reaped | Become | Keep | Hold | Release | Collected
)  # fmt: skip
