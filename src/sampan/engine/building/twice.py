"""`--twice`: what differs first between two builds of the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.engine.building.layering import Layering
    from sampan.engine.building.stages import At
    from sampan.rootfs.snapshots import Snapshots


def difference(first: At, second: At, layering: Layering, snapshots: Snapshots) -> str:
    """Return the first difference in one clause, "" where layers and configuration are the same.

    When they were made is not compared: with SOURCE_DATE_EPOCH that is the same, too.
    """
    steps = [entry.created_by or "" for entry in first.history if not entry.empty_layer]
    if first.host:
        steps = steps[-1:]  # one layer has what all steps made
    for number, (ours, theirs) in enumerate(zip(first.diff_ids, second.diff_ids, strict=False)):
        if ours != theirs:
            found = layering.compare(snapshots.content(ours), snapshots.content(theirs))
            step = steps[number] if number < len(steps) else f"layer {number + 1}"
            return f"{step}: {found or 'the same files are told in another form'}"
    if len(first.diff_ids) != len(second.diff_ids):
        return f"there are {len(first.diff_ids)} layers, then {len(second.diff_ids)}"
    return "" if first.scope.config == second.scope.config else "the configuration differs"
