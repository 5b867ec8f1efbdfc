"""Workers for many jobs of a kind, of which each does one after another: half of a short job is a process's start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.links import Channel


class Workers:
    """Those of one piece of work. In a `with`, who has done a job waits for the next; at its end they end."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._entered = False
        self._free: list[Channel] = []

    def __enter__(self) -> Self:
        self._entered = True
        return self

    def __exit__(self, *_: object) -> None:
        self._entered = False
        while self._free:
            self._free.pop().close()

    def take(self) -> Channel:
        """Return one that is free, or a new one. Close it, or give it back when its job went well."""
        while True:
            try:
                channel = self._free.pop()
            except IndexError:
                return self._core.worker()
            if not channel.gone:
                return channel
            channel.close()

    def give_back(self, channel: Channel) -> None:
        """Keep it for another job, or close it outside of a `with`."""
        if self._entered:
            self._free.append(channel)
        else:
            channel.close()
