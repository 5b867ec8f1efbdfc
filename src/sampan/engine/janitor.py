"""What is done behind the answers, on one thread: recording exits, `--rm`, removing large directories."""

from __future__ import annotations

import heapq
import itertools
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

from sampan.errors import SampanError

if TYPE_CHECKING:
    from collections.abc import Callable


class Janitor:
    """A thread with a queue of jobs, each with the moment from which it may run."""

    def __init__(self) -> None:
        self._jobs: list[tuple[float, int, str, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)
        self._thread.start()

    def later(self, what: str, job: Callable[[], object], delay_s: float = 0) -> None:
        """Run `job` in `delay_s` seconds or somewhat later. What it raises is written to the log, with `what`."""
        with self._changed:
            heapq.heappush(self._jobs, (time.monotonic() + delay_s, next(self._numbers), what, job))
            self._changed.notify()

    def close(self) -> None:
        """Stop after the job at hand; what is left is done by the repair at the next start."""
        with self._changed:
            self._stop = True
            self._changed.notify()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            job = self._next()
            if job is None:
                return
            what, call = job
            try:
                call()
            except SampanError as e:
                print(f"sampan: can't {what}: {e.message}", file=sys.stderr, flush=True)
            except Exception:
                print(f"sampan: can't {what}:", file=sys.stderr)
                traceback.print_exc()

    def _next(self) -> tuple[str, Callable[[], object]] | None:
        with self._changed:
            while not self._stop:
                wait = self._jobs[0][0] - time.monotonic() if self._jobs else None
                if wait is not None and wait <= 0:
                    _, _, what, job = heapq.heappop(self._jobs)
                    return what, job
                self._changed.wait(wait)
        return None
