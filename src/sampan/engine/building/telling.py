"""What a build tells while it runs: events of several threads, one at a time, with the numbers of the steps."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sampan.spec.build import StepEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.spec.build import BuildEvent, StepBegan

    Report = Callable[[BuildEvent], None]


class Ending:
    """How a step ends: set what is known before the block ends."""

    cached = False
    miss = ""
    layer = ""


class Telling:
    """Tells one client."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._speaking = threading.Lock()
        self._numbers = itertools.count(1)

    def number(self) -> int:
        """Return the next step's number."""
        return next(self._numbers)

    def tell(self, event: BuildEvent) -> None:
        """Tell one event."""
        with self._speaking:
            self._report(event)

    @contextmanager
    def step(self, began: StepBegan) -> Iterator[Ending]:
        """Tell of a step that is done in the block. Of one that fails no end is told."""
        start = time.perf_counter_ns()
        ending = Ending()
        self.tell(began)
        yield ending
        took = time.perf_counter_ns() - start
        self.tell(StepEnded(step=began.step, cached=ending.cached, miss=ending.miss, layer=ending.layer, ns=took))
