"""The containers whose namespaces another one joins, as they are at its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.engine.translate import JOINED, join
from sampan.errors import Conflict

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.spec.runtime import Spec


def with_joined(core: Core, spec: Spec) -> Spec:
    """Return the configuration with the first processes of the containers that are joined. They have to run."""
    return join(spec, lambda other: _first_process(core, other))


def without_joined(spec: Spec) -> Spec:
    """Return the configuration without what is there only while other containers run. Pure.

    Of a user namespace that is joined it has the mappings as well.
    """
    mounts = tuple(mount for mount in spec.mounts if not mount.source.startswith(JOINED))
    named = tuple(replace(each, path="") if each.path.startswith(JOINED) else each for each in spec.linux.namespaces)
    return replace(spec, mounts=mounts, linux=replace(spec.linux, namespaces=named))


def _first_process(core: Core, id: str) -> int:
    other = core.registry.get(id)
    if other is None:
        raise Conflict(f"cannot join namespaces of a container that is gone: {id}")
    if not other.running or not other.state.pid:
        raise Conflict(f"cannot join namespaces of a non running container: {id}", f"start {other.name} first")
    return other.state.pid
