"""Whose the processes were that the kernel has killed for memory without naming their control group. Pure.

The kernel counts each kill in its group before it writes the line about it. So a group which has counted more than the
lines tell is where the next ones belong, if it is the only one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Shares:
    """By container: how many of its kills are accounted for."""

    def __init__(self, before: Mapping[str, int]) -> None:
        self._known = dict(before)

    def named(self, id: str) -> None:
        """Account for one whose group was named."""
        self._known[id] = self._known.get(id, 0) + 1

    def owner(self, counted: Mapping[str, int], victims: int) -> str | None:
        """Return whose these victims are, by what each container has counted; None where that is not certain.

        Then they count as known of, lest later ones are taken for them.
        """
        more = {id: kills - self._known.get(id, 0) for id, kills in counted.items() if kills > self._known.get(id, 0)}
        if len(more) == 1:
            ((id, kills),) = more.items()
            if kills >= victims:
                self._known[id] = self._known.get(id, 0) + victims
                return id
        self._known.update(counted)
        return None

    def end(self, id: str) -> None:
        """Forget one that has ended: its next run has groups that have counted nothing."""
        self._known.pop(id, None)
