"""Docker's rules of `rmi`: which names go, whether the image goes, and what stands against it. Pure.

Source: moby, daemon/images/image_delete.go. One rule is not kept: there an image can't be deleted by its id while
another was made from it. Here each image has its layers to itself, and nothing is lost with a parent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Conflict
from sampan.ids import short
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.spec.image import Use


class Decision(msgspec.Struct, frozen=True):
    """What is to be done."""

    untag: tuple[Reference, ...]
    delete: bool


def decide(
    id: str,
    references: Sequence[Reference],
    uses: Sequence[Use],
    *,
    named: Reference | None,
    force: bool,
    typed: str = "",
    parent: bool = False,
) -> Decision:
    """Decide what `rmi` of the image `id` does; `named` is the name it was called by, None if it was called by id.

    `parent`: another image was made from it. Raises Conflict in Docker's words, with the name as it was `typed`.
    """
    if named is None:
        _check_by_id(id, references, uses, force=force)
        return Decision(tuple(references), delete=True)
    if not force and is_single(references) and uses:
        raise Conflict(
            f'conflict: unable to remove repository reference "{typed or named.familiar()}" (must force) - container '
            f"{short(uses[0].container_id)} is using its referenced image {short(id)}",
            "remove the container first, or use --force",
        )
    untag = [named]
    rest = [r for r in references if r != named]
    if named.digest is None and not any(r.tag for r in rest if r.name == named.name):
        # The repository's last tag takes its digests along.
        untag += [r for r in rest if r.name == named.name]
        rest = [r for r in rest if r.name != named.name]
    # An image that runs (then with -f), or is a parent, stays without a name, and nothing is said of it.
    needed = parent or any(use.running for use in uses)
    return Decision(tuple(untag), delete=not rest and not needed)


def is_single(references: Sequence[Reference]) -> bool:
    """Tell whether there is one name at most: one tag, and digests of the same repository only."""
    tags = [r for r in references if r.digest is None]
    repositories = {r.name for r in references}
    return len(tags) <= 1 and len(repositories) <= 1


def _check_by_id(id: str, references: Sequence[Reference], uses: Sequence[Use], *, force: bool) -> None:
    for use in uses:
        if use.running:
            why = f"image is being used by running container {short(use.container_id)}"
            raise _conflict(id, "cannot be forced", why)
    if force:
        return
    if not is_single(references):
        hint = "remove it by a name, or `sampan rmi --force` takes all its names"
        raise _conflict(id, "must be forced", "image is referenced in multiple repositories", hint)
    if uses:
        raise _conflict(id, "must be forced", f"image is being used by stopped container {short(uses[0].container_id)}")


def _conflict(id: str, whether: str, why: str, hint: str = "see `sampan ps -a`") -> Conflict:
    return Conflict(f"conflict: unable to delete {short(id)} ({whether}) - {why}", hint)
