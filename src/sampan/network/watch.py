"""Follows what others change in nftables, because a reload of theirs may take away what is ours."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING

from sampan.errors import SampanError
from sampan.kernel.nfnetlink import SUBSYSTEM_NFTABLES, Events
from sampan.kernel.nftables import Message

if TYPE_CHECKING:
    from collections.abc import Callable

_SETTLED_S = 0.1  # a reload is several transactions
_AT_MOST_EVERY_S = 1.0
_TELLING = frozenset(
    SUBSYSTEM_NFTABLES << 8 | m
    for m in (
        Message.NEWTABLE, Message.DELTABLE, Message.NEWCHAIN, Message.DELCHAIN, Message.NEWRULE, Message.DELRULE,
    )
)  # fmt: skip
"""What may concern us. Elements of sets don't, and they are all that we change day by day."""


class Watch:
    """A thread that calls `changed` soon after tables, chains or rules were changed, in the namespace of its maker.

    `blind` tells whether there are rules whose changes nobody tells of; then it is also called now and then.
    """

    def __init__(self, changed: Callable[[], None], blind: Callable[[], bool], every_s: float = 30.0) -> None:
        self._changed = changed
        self._blind = blind
        self._every_ms = int(every_s * 1000)
        self._events = Events()
        self._end, self._ended = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._follow, name="nftables", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and wait for what it is doing; once more does nothing."""
        if self._ended >= 0:
            os.close(self._ended)
            self._ended = -1
            self._thread.join()
            os.close(self._end)
            self._events.close()

    def _follow(self) -> None:
        poll = select.poll()
        poll.register(self._events.fileno(), select.POLLIN)
        poll.register(self._end, select.POLLIN)
        while True:
            ready = self._wait(poll, self._every_ms if self._blind() else None)
            if self._end in ready:
                return
            if not ready or self._tells():
                time.sleep(_SETTLED_S)
                self._drain(poll)
                self._call()
                if not self._pause():
                    return

    def _wait(self, poll: select.poll, timeout_ms: int | None) -> list[int]:
        return [fd for fd, _ in poll.poll(timeout_ms)]

    def _tells(self) -> bool:
        messages = self._events.read()
        return not messages or any(m.type in _TELLING for m in messages)

    def _drain(self, poll: select.poll) -> None:
        while self._events.fileno() in self._wait(poll, 0):
            self._events.read()

    def _pause(self) -> bool:
        ended, _, _ = select.select([self._end], [], [], _AT_MOST_EVERY_S)
        return not ended

    def _call(self) -> None:
        try:
            self._changed()
        except (SampanError, OSError) as e:  # the next change is another chance
            print(f"sampan: {e}", file=sys.stderr, flush=True)
