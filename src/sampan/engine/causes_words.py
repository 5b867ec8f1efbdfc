"""Causes that a container's last lines tell: which words are whose. Pure.

What programs say is no record: a cause found here is said to be in its last lines, and is `from_output`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine import (
    causes_files as files,
    causes_network as network,
    causes_rights as rights,
    causes_ulimits as ulimits,
)
from sampan.engine.causes_told import NO_SPEC, Told

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable

    from sampan.spec.docker import ContainerCreate
    from sampan.spec.docker.why import Cause
    from sampan.spec.runtime import Spec

_RULES: tuple[tuple[re.Pattern[str], Callable[[Told], Cause | None]], ...] = (
    (ulimits.FILES, ulimits.files),
    (ulimits.LENGTH, ulimits.length),
    (ulimits.TIME, ulimits.time),
    (network.TAKEN, network.taken),
    (network.UNRESOLVED, network.unresolved),
    (files.READ_ONLY, files.read_only),
    (ulimits.PROCESSES, ulimits.processes),
    (network.REFUSED, network.refused),
    (network.UNREACHABLE, network.unreachable),
    (rights.NOT_PERMITTED, rights.not_permitted),
    (files.DENIED, files.denied),
    (rights.NOT_THERE, rights.not_there),
)


def told_by(output: Iterable[str], body: ContainerCreate, spec: Spec = NO_SPEC) -> Cause | None:
    """Return the cause that the last line tells which tells any."""
    for line in reversed(tuple(output)):
        for words, rule in _RULES:
            if words.search(line) and (cause := rule(Told(line, body, spec))):
                return cause
    return None
