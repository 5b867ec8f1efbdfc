"""The steps that made an image, as `history` shows them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.spec.image import HistoryEntry, HistoryRow, moment_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.spec.image import Image


def history(image: Image, ancestors: Mapping[int, Image] | None = None) -> tuple[HistoryRow, ...]:
    """Return the steps, the last first; layers that no step tells of count as later ones.

    The last step has the image's id and tags, and so have the steps of `ancestors`, by the length of their history.
    """
    steps = list(image.config.history or ())
    untold = len(image.diff_ids) - sum(not step.empty_layer for step in steps)
    steps += [HistoryEntry(created=image.created)] * max(untold, 0)
    steps = steps or [HistoryEntry(created=image.created, empty_layer=True)]
    sizes = iter(image.layer_sizes)
    made = {**(ancestors or {}), len(steps): image}
    return tuple(reversed([_row(step, sizes, made.get(number)) for number, step in enumerate(steps, 1)]))


def _row(step: HistoryEntry, sizes: Iterator[int], image: Image | None) -> HistoryRow:
    return HistoryRow(
        id=image.id if image else "<missing>",
        created=moment_ns(step.created) // 10**9,
        created_by=step.created_by or "",
        size=0 if step.empty_layer else next(sizes, 0),
        comment=step.comment or "",
        tags=image.repo_tags if image else (),
    )
