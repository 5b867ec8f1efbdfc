"""What the readers of logs share: whose it is, and how one that waits for more is woken and ended."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sampan.engine.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.registry import Container
    from sampan.engine.requests import LogsQuery


class Reader:
    """An iterator over ("stdout" | "stderr", whole lines). With `follow` it ends with the container, or at `close`."""

    def __init__(self, container: Container, query: LogsQuery) -> None:
        self._container = container
        self._query = query
        self._bell: Bell | None = None
        self._closed = False

    @property
    def tty(self) -> bool:
        """Whether the log is sent raw."""
        return self._container.body.tty

    def close(self) -> None:
        """End the iteration; from any thread, also before it has begun."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if bell := self._bell:
            bell.ring()

    @contextmanager
    def _listening(self) -> Iterator[Bell]:
        """Have a bell that rings when the container changes, and at `close`."""
        bell = self._bell = Bell()
        self._container.on_change.add(self._wake)
        try:
            yield bell
        finally:
            self._container.on_change.discard(self._wake)
            self._bell = None
            bell.close()
