"""What callers ask of the engine beyond Docker's bodies, and what they are handed to go on with.

The API builds these from query strings; nothing here depends on HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

Filters = dict[str, tuple[str, ...]]
"""Docker's filters, whichever JSON form they came in: `{"label": ("a=b", "c")}`."""


class LogsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a container's log, and whether to go on with it. Times are ns since 1970; 0 is no limit."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    timestamps: bool = False
    details: bool = False
    since_ns: int = 0
    until_ns: int = 0
    tail: int | None = None  # None: all of it


class AttachQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which streams of a container a client wants. `stream` false with `logs` true sends what there was and ends.

    `websocket`: they are messages of that opcode.
    """

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    stream: bool = True
    logs: bool = False
    detach_keys: str | None = None  # Docker's form: "ctrl-p,ctrl-q"; None: the container's own
    websocket: int = 0


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which events. With `until_ns` in the past the stream ends after those that are remembered."""

    since_ns: int | None = None
    until_ns: int | None = None
    filters: Filters = {}


class ImagesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which images, and what of them takes work to tell. `all`: those too that are there for others only."""

    all: bool = False
    filters: Filters = {}
    shared_size: bool = False
    manifests: bool = False


class MapQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How much of an image's map is wanted: `top` of each list, directories down to `depth`, `nodes` to draw."""

    depth: int = 3
    top: int = 10
    nodes: int = 0


class CommitQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit's image is to be, beside the container's configuration."""

    reference: str = ""
    author: str = ""
    comment: str = ""
    pause: bool = True
    changes: tuple[str, ...] = ()
    squash: bool = False
    epoch_s: int | None = None  # SOURCE_DATE_EPOCH: when it is made, and no file is later


class BuildPruneQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What of the build cache is to go. Bytes of 0 set no limit; `all` are those steps too whose layers images have."""

    filters: Filters = {}
    all: bool = False
    reserved_bytes: int = 0  # stay in any case
    max_used_bytes: int = 0
    min_free_bytes: int = 0  # of the disk


PRUNED = ("container", "network", "volume", "image", "build-cache")
"""What prunes remove, in the order in which a prune of everything does: containers are what uses the others."""


class PrunePlanQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What would a prune of these `kinds` remove? `all`: images with names, and cached steps whose layers images have.

    `cache` are the bounds of a prune of the build cache; its `filters` and `all` are this query's.
    """

    kinds: tuple[str, ...] = PRUNED
    filters: Filters = {}
    all: bool = False
    cache: BuildPruneQuery = BuildPruneQuery()


class Session(Protocol):
    """A checked attach or exec that waits for the client's connection.

    The caller sends its HTTP answer (`tty` says which content type: raw, or multiplexed) and then hands the
    connection over. The engine duplicates the descriptor: the caller closes its own afterwards, at once.
    """

    @property
    def tty(self) -> bool:
        """Whether the streams are raw."""
        ...

    def answering(self) -> AbstractContextManager[None]:
        """Enter this around the answer and the handover: who has the answer may start the container at once."""
        ...

    def hand_over(self, fd: int, already_read: bytes = b"") -> None:
        """Give the connection to the shim. A failure is written to the client in its stream form, not raised."""
        ...

    def abandon(self) -> None:
        """The connection broke before it was handed over."""
        ...


class LogStream(Protocol):
    """A log being read: iterate for `("stdout" | "stderr", bytes)`. `close` from any thread ends the iteration."""

    @property
    def tty(self) -> bool:
        """Whether the container has a terminal: then its log is sent raw."""
        ...

    def __iter__(self) -> Iterator[tuple[str, bytes]]: ...

    def close(self) -> None:
        """End a follower."""
        ...
