"""Sends a container's lines to syslog or to the journal, a message each, and never stops the shim for it.

What can't be sent at once is queued as it came: messages are several times as long as lines, and a shim is small. A
receiver that is slow holds the container's output up as a slow client does (`blocking`), or not: then, and while there
is no receiver at all, what is too much for the queue is dropped and counted, and the next message that gets through
says how many are missing.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from sampan.supervise.lines import Lines
from sampan.supervise.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.supervise.link import Receiver
    from sampan.supervise.loop import Loop

HIGH_WATER_BYTES = 8 * 1024
"""A blocking sender with this much unsent holds the container's output up."""

DEFAULT_BUFFER_BYTES = 1_000_000

_PER_BLOCK_BYTES = 128  # what a queued block costs beside its own length


class LogSender:
    """`message(stream, line, time in ns)` makes one; a line comes with its newline, a piece of one without.

    `buffer_bytes` None is blocking. Lines that are empty are not sent, as by Docker.
    """

    def __init__(
        self,
        loop: Loop,
        receiver: Receiver,
        message: Callable[[str, bytes, int], bytes],
        buffer_bytes: int | None = None,
    ) -> None:
        self.dropped_lines = 0
        self.on_drained: Callable[[], None] = lambda: None
        self._message = message
        self._blocking = buffer_bytes is None
        self._most_bytes = buffer_bytes or DEFAULT_BUFFER_BYTES
        self._queue: deque[tuple[str, int, bytes]] = deque()  # stream, time, whole lines or one piece
        self._queued_bytes = 0
        self._stream, self._now_ns, self._block, self._at = "", 0, b"", 0  # the one that is being sent, and how far
        self._gap_lines = 0
        self._lines: dict[str, Lines] = {}
        self._link = Link(loop, receiver, self._next, self._flowing)

    @property
    def pending(self) -> bool:
        """Whether there is something that is not sent."""
        return bool(self._queue) or self._at < len(self._block) or self._link.sending

    @property
    def holds_up(self) -> bool:
        """Whether more output must wait: for a receiver that is there, not for one that is not."""
        return self._blocking and self._queued_bytes > HIGH_WATER_BYTES and self._link.connected

    def write(self, stream: str, data: bytes | bytearray | memoryview) -> None:
        """Send what came on a stream just now."""
        lines = self._lines.get(stream)
        if lines is None:
            lines = self._lines[stream] = Lines()
        data = bytes(data)
        block = lines.block(data, escaping=False)
        self._send(stream, lines.feed(data) if block is None else [block] if block else [])

    def end(self, stream: str) -> None:
        """Send what the stream has left without a newline."""
        lines = self._lines.pop(stream, None)
        if lines:
            self._send(stream, lines.end())

    def close(self) -> None:
        """Send the rest of every stream. What is pending is sent as long as the shim's loop runs."""
        for stream in list(self._lines):
            self.end(stream)
        self._link.finish()

    def _send(self, stream: str, blocks: list[bytes]) -> None:
        if not blocks:
            return
        now_ns = time.time_ns()
        for block in blocks:
            self._enqueue(stream, now_ns, block)
        self._link.send()

    def _enqueue(self, stream: str, now_ns: int, block: bytes) -> None:
        """Queue it, or drop it; once some were dropped others are, until half of the queue is free again.

        An empty queue takes any: lines that came together may be more than all of a small one.
        """
        most = self._most_bytes // 2 if self._gap_lines else self._most_bytes
        full = bool(self._queued_bytes) and self._queued_bytes + len(block) + _PER_BLOCK_BYTES > most
        if full and not self.holds_up:
            lines = sum(map(bool, block.split(b"\n")))
            self.dropped_lines += lines
            self._gap_lines += lines
            return
        if self._gap_lines:
            self._add_note()
        self._add(stream, now_ns, block)

    def _add(self, stream: str, now_ns: int, block: bytes) -> None:
        self._queue.append((stream, now_ns, block))
        self._queued_bytes += len(block) + _PER_BLOCK_BYTES

    def _add_note(self) -> None:
        """Say it in the place of what was dropped."""
        text = b"[sampan: %d lines are missing here: they could not be sent]\n" % self._gap_lines
        self._gap_lines = 0
        self._add("stderr", time.time_ns(), text)

    def _next(self) -> bytes | None:
        """Give the link what it sends next."""
        while True:
            start = self._at
            if start < len(self._block):
                self._at = self._block.find(b"\n", start) + 1 or len(self._block)
                line = self._block[start : self._at]
                if line != b"\n":
                    return self._message(self._stream, line, self._now_ns)
                continue
            if not self._queue:
                if not self._gap_lines:
                    return None
                self._add_note()
            self._stream, self._now_ns, self._block = self._queue.popleft()
            self._at = 0
            self._queued_bytes -= len(self._block) + _PER_BLOCK_BYTES

    def _flowing(self) -> None:
        """Something was sent, or there is nobody any more to wait for."""
        if not self.holds_up:
            self.on_drained()
