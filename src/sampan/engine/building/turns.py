"""Who makes a step: of several builds and stages that want the same one at the same moment, one; the others wait."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOOK_S = 0.1


class Turns:
    """A lock for each key, as long as somebody holds it or waits. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, key: str, check: Callable[[], None]) -> Iterator[None]:
        """Be the only one with this key. `check` is called while one waits; it raises to give up."""
        with self._lock:
            turn, users = self._known.get(key, (threading.Lock(), 0))
            self._known[key] = turn, users + 1
        try:
            while not turn.acquire(timeout=_LOOK_S):
                check()
            try:
                yield
            finally:
                turn.release()
        finally:
            with self._lock:
                turn, users = self._known.pop(key)
                if users > 1:
                    self._known[key] = turn, users - 1
