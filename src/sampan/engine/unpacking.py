"""Workers that unpack layers: new ones, and those that were interrupted and wait to go on."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Self

import msgspec

from sampan.engine.workers import Workers
from sampan.errors import SampanError
from sampan.image.unfinished import SOCKET
from sampan.rootfs.snapshots import tree_bytes
from sampan.supervise import messages

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.links import Channel

_UNPACK_S = 24 * 3600
_POSITION_S = 60.0  # one that is not interrupted yet first unpacks what it has been sent
_FORGET_S = 20.0
_MOST_WAITING = 8


class Unpacker:
    """Unpacks layers in processes of their own, which the keeper forks; several at once use as many processors.

    In a `with`, a process that is done with a layer gets another one; at the end of the block they end.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._workers = Workers(core)

    def __enter__(self) -> Self:
        self._workers.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.__exit__()

    def __call__(
        self, fd: int, target: str, *, digest: str | None, diff_id: str | None, size: int | None = None
    ) -> messages.Unpacked:
        """Unpack the compressed tar that `fd` gives into the new directory `target`."""
        settings = self._core.settings.read()
        job = messages.Unpack(
            target=target,
            digest=digest,
            diff_id=diff_id,
            keep_blob=settings.store.keep_blobs,
            limits=msgspec.json.encode(settings.limits),
            size=size,
        )
        self._make_room()
        channel = self._workers.take()
        try:
            unpacked = channel.ask(job, messages.Unpacked, (fd,), timeout_s=_UNPACK_S)
        except SampanError:  # it may have been interrupted
            channel.close()
            self._make_room()
            raise
        self._workers.give_back(channel)
        return unpacked

    def resume(self, key: str) -> Interrupted | None:
        """Find a worker that was interrupted in the middle of a layer."""
        for place in self._core.images.layers.waiting(key):
            channel = _connect(self._core, place)
            if channel is None:
                continue
            try:
                position = channel.ask(messages.Position(), messages.Parked, timeout_s=_POSITION_S)
            except SampanError:  # it has just given up
                channel.close()
                continue
            return Interrupted(channel, place, position.compressed_bytes)
        return None

    def give_up(self) -> int:
        """Let all give up that wait; return the bytes that they had unpacked."""
        given_up = 0
        for place in self._core.images.layers.waiting():
            used = tree_bytes(place)
            given_up += used if self._end(place) else 0
        return given_up

    def _make_room(self) -> None:
        """Let those give up that have waited longest, so that one more is not too many."""
        waiting = self._core.images.layers.waiting()
        for place in waiting[: max(0, len(waiting) + 1 - _MOST_WAITING)]:
            self._end(place)

    def _end(self, place: str) -> bool:
        channel = _connect(self._core, place)
        if channel is None:
            return False
        with closing(channel):
            return channel.post(messages.Forget()).wait_quietly(_FORGET_S)


class Interrupted:
    """A worker that waits in the middle of a layer, `offset` bytes of which it has."""

    def __init__(self, channel: Channel, place: str, offset: int) -> None:
        self.place = place
        self.offset = offset
        self._channel = channel

    def __call__(
        self,
        fd: int,
        target: str,  # noqa: ARG002  # it knows what it is at, as `Unpacker` needs to be told
        *,
        digest: str | None,  # noqa: ARG002
        diff_id: str | None,  # noqa: ARG002
        size: int | None = None,  # noqa: ARG002
    ) -> messages.Unpacked:
        """Unpack the rest, which `fd` gives."""
        return self._channel.ask(messages.Feed(), messages.Unpacked, (fd,), timeout_s=_UNPACK_S)

    def close(self) -> None:
        """Let go of it."""
        self._channel.close()


def _connect(core: Core, place: str) -> Channel | None:
    try:
        return core.links.connect(f"{place}/{SOCKET}", "the waiting worker")
    except OSError:
        return None
