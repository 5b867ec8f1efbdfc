"""Why a step was not found in the cache: the first thing that differs from the nearest that is there. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sampan.build.keys import Fact, Facts

    Selections = Callable[[str], Mapping[str, str] | None]  # the files of a selection by its digest: name → digest

_SHOWN = 60

NEVER = "nothing like it is in the cache"


def nearest(new: Facts, known: Sequence[Facts]) -> Facts | None:
    """Return what a step is best compared with; of equals the first.

    That is one of the same parent before one of the same instruction, and both before either.
    """

    def likeness(facts: Facts) -> tuple[bool, ...]:
        same_parent, same_text = facts.parent == new.parent, facts.instruction == new.instruction
        same_word = facts.instruction.partition(" ")[0] == new.instruction.partition(" ")[0]
        return same_parent and same_text, same_text and facts.below == new.below, same_text, same_parent and same_word

    best = max(known, key=likeness, default=None)
    return best if best is not None and any(likeness(best)) else None


def difference(old: Facts, new: Facts, selections: Selections) -> str:
    """Say in one clause what is the first that differs: the parent, a value, or a file."""
    if old.parent != new.parent:
        if old.below != new.below:
            return f"what is below it differs: {_short(new.below)}, it was {_short(old.below)}"
        return f"what is below it has other files: {_short(new.below)}"
    return _of_values(old.values, new.values) or _of_files(old.files, new.files, selections) or NEVER


def _of_values(old: Sequence[Fact], new: Sequence[Fact]) -> str:
    before, after = _by_name(old), _by_name(new)
    for name, value in after.items():
        if name not in before:
            return f"{name} is new: {_text(value)}"
        if before[name] != value:
            return f"{name} differs: {_text(value)}, it was {_text(before[name])}"
    for name in before:
        if name not in after:
            return f"{name} is gone: it was {_text(before[name])}"
    # The same, in another order.
    return "the order of its variables differs" if tuple(old) != tuple(new) else ""


def _by_name(facts: Sequence[Fact]) -> dict[str, str]:
    """Join what has one name: the sources of a COPY."""
    found: dict[str, str] = {}
    for name, value in facts:
        found[name] = f"{found[name]} {value}" if name in found else value
    return found


def _of_files(old: Sequence[Fact], new: Sequence[Fact], selections: Selections) -> str:
    before = dict(old)
    for target, digest in new:
        where = f" at {target}" if target else ""
        if target not in before:
            return f"files are new{where}"
        if before[target] != digest:
            return _of_selections(selections(before[target]), selections(digest)) + where
    return ""


def _of_selections(old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> str:
    if old is None or new is None:
        return "its files differ"
    changed = sorted(name for name in new if name in old and new[name] != old[name])
    added = sorted(name for name in new if name not in old)
    removed = sorted(name for name in old if name not in new)
    for names, verb in ((changed, "has changed"), (added, "is new"), (removed, "is gone")):
        if names:
            more = len(changed) + len(added) + len(removed) - 1
            return f"the file {_short(names[0])} {verb}" + (f", and {more} more" if more else "")
    return "its files differ"


def _text(value: str) -> str:
    return _short(value.replace("\0", " ")) or "nothing"


def _short(text: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
