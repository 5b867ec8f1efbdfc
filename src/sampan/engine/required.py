"""`--requires`: containers that run before another one starts, and that can't be removed as long as it is there.

What is required is there when a container is made, and known by its id from then on: there are no circles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.errors import Conflict, InvalidInput, NotFound
from sampan.spec.annotations import REQUIRES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.registry import Container, Registry
    from sampan.spec.docker import ContainerCreate


def resolved(registry: Registry, body: ContainerCreate) -> ContainerCreate:
    """Return the body with the ids of what is required in place of names. Raises InvalidInput."""
    annotations = body.host_config.annotations or {}
    if REQUIRES not in annotations:
        return body
    found = {}
    for name in filter(None, annotations[REQUIRES].split(",")):
        try:
            found[registry.find(name).id] = name
        except NotFound as e:  # as a 404 it would have a docker client pull the image
            raise InvalidInput(f'"{name}" is not a valid container, cannot be used as a dependency: {e.message}') from e
    host_config = replace(body.host_config, annotations={**annotations, REQUIRES: ",".join(found)})
    return replace(body, host_config=host_config)


def before(core: Core, container: Container) -> list[Container]:
    """Return what must run before a container, in the order in which that can be started. Raises Conflict."""
    ordered: dict[str, Container] = {}
    above = [(container, _ids(container))]
    while above:
        one, left = above[-1]
        for id in left:
            if id not in ordered:
                above.append((other := _find(core, id, one), _ids(other)))
                break
        else:
            above.pop()
            ordered[one.id] = one
    ordered.pop(container.id)
    return list(ordered.values())


def _ids(container: Container) -> Iterator[str]:
    text = (container.body.host_config.annotations or {}).get(REQUIRES, "")
    return iter(text.split(",") if text else ())


def _find(core: Core, id: str, container: Container) -> Container:
    found = core.registry.get(id)
    if found is None:
        raise Conflict(
            f"can't start {container.name}: container {id[:12]}, which it requires, is no more",
            "make it anew: sampan run --replace --requires …",
        )
    return found


def users(core: Core) -> dict[str, list[Container]]:
    """Return the containers that require another one, by its id."""
    found: dict[str, list[Container]] = {}
    for container in core.registry:
        for id in _ids(container):
            found.setdefault(id, []).append(container)
    return found


def check_removable(core: Core, container: Container) -> None:
    """Raise Conflict where others require it."""
    if others := users(core).get(container.id):
        names = ", ".join(other.name for other in others)
        raise Conflict(
            f'cannot remove container "/{container.name}": it has dependent containers which must be removed before '
            f"it: {names}",
            f"sampan rm --depend {container.name} removes them as well",
        )
