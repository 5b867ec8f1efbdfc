"""The word that was probably meant."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the word at the least distance from `word`, if that is small; else an empty string."""
    limit = max(1, len(word) // 3)
    scored = sorted((distance(word, other), other) for other in words)
    return scored[0][1] if scored and scored[0][0] <= limit else ""


def distance(a: str, b: str) -> int:
    """Count the letters to add, remove, change or swap with a neighbour to get from `a` to `b`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row, above = row, [i], before
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
    return row[-1]
