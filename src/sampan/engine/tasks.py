"""A verb that takes long and reports how far it is, in a thread of its own: a client that is slow or leaves stops no
other's work, and can be noticed by its own thread.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.spec.distribution import Progress

    Report = Callable[[Progress], None]


class Task:
    """Iterate over its progress; at its end what it failed with is raised. Of a number only the latest is told."""

    def __init__(self, work: Callable[[Report], object], stop: Callable[[], None]) -> None:
        """`work` is called with a function that takes its progress; `stop`, from any thread, makes it fail early."""
        self._work = work
        self._stop = stop
        self._changed = threading.Condition()
        self._events: deque[Progress | str] = deque()  # a text: the number of that id
        self._numbers: dict[str, Progress] = {}
        self._ended = False
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="task", daemon=True).start()

    def __iter__(self) -> Iterator[Progress]:
        """Give what there is to tell, as it comes."""
        while (event := self._next()) is not None:
            yield event
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Let it end early."""
        self._stop()

    def _next(self) -> Progress | None:
        with self._changed:
            while not self._events and not self._ended:
                self._changed.wait()
            if not self._events:
                return None
            event = self._events.popleft()
            return self._numbers.pop(event) if isinstance(event, str) else event

    def _run(self) -> None:
        try:
            self._work(self._report)
        except BaseException as e:
            self._error = e
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _report(self, event: Progress) -> None:
        with self._changed:
            if event.id is None or event.current is None:
                self._events.append(event)
            else:
                if event.id not in self._numbers:
                    self._events.append(event.id)
                self._numbers[event.id] = event
            self._changed.notify()
