"""A verb that takes long and reports how far it is, in a thread of its own: a client that is slow or leaves stops no
other's work, and can be noticed by its own thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.spec.distribution import Progress

    Report = Callable[[Progress], None]

_NUMBERS_EVERY_S = 0.1


class Task:
    """Iterate over its progress; at its end what it failed with is raised.

    Of the numbers of an id the first is told, and then only the latest, and not too often.
    """

    def __init__(self, work: Callable[[Report], object], stop: Callable[[], None]) -> None:
        """`work` is called with a function that takes its progress; `stop`, from any thread, makes it fail early."""
        self._work = work
        self._stop = stop
        self._changed = threading.Condition()
        self._events: deque[Progress] = deque()
        self._begun: set[str] = set()  # ids of which there were numbers
        self._numbers: dict[str, Progress] = {}  # by id: the latest
        self._told = 0.0
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
            while True:
                left = self._told + _NUMBERS_EVERY_S - time.monotonic()
                if self._events:
                    return self._events.popleft()
                if self._ended:
                    return None
                if self._numbers and left <= 0:
                    self._told = time.monotonic()
                    self._events.extend(self._numbers.values())
                    self._numbers.clear()
                else:
                    self._changed.wait(left if self._numbers else None)

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
            if event.id in self._begun and event.current is not None:
                self._numbers[event.id] = event
            else:
                self._numbers.pop(event.id or "", None)
                self._events.append(event)
                if event.id is not None and event.current is not None:
                    self._begun.add(event.id)
            self._changed.notify()
