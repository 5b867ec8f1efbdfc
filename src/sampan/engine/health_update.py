"""`update` of a container's health check: another one, at once if it runs. Docker has none; the rules are Podman's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.engine import health, health_files
from sampan.engine.core import encode
from sampan.engine.health_options import ALL, STARTUP, startup_check
from sampan.engine.health_policy import check_of, completed
from sampan.errors import InvalidInput, NotFound
from sampan.spec.annotations import HEALTH_ON_FAILURE, HEALTH_STARTUP_CMD
from sampan.spec.docker import ContainerUpdateResponse
from sampan.spec.state import Status

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.docker import ContainerCreate, HealthUpdate


_HINT = "give it one: --health-cmd"


def update(core: Core, container: Container, given: HealthUpdate) -> ContainerUpdateResponse:
    """Change what is given. What is known of its health stays, the time to the next check begins anew."""
    with container.lock:
        if container.removed or container.state.status in (Status.REMOVING, Status.DEAD):
            raise NotFound(f"No such container: {container.name}")
        body = health_files.placed(merged(container.body, given))
        spec = core.spec(container)
        kept = {name: text for name, text in spec.annotations.items() if name not in ALL}
        ours = {name: text for name, text in (body.host_config.annotations or {}).items() if name in ALL}
        spec = replace(spec, annotations={**kept, **ours})
        core.store.set_body(container.id, encode(body), spec=encode(spec))
        container.body = body
        container.spec = None
        if check_of(body) is None and container.state.health is not None:
            container.update(health=None)
            core.save(container)
        if container.running:
            health.begin(core, container, anew=False)
    core.tell(container, "update")
    return ContainerUpdateResponse()


def merged(body: ContainerCreate, given: HealthUpdate) -> ContainerCreate:
    """Return the container's body with what is given. Pure. Raises InvalidInput, in Podman's words."""
    changes = given.annotations or {}
    for name in changes:
        if name not in ALL:
            raise InvalidInput(f"can't update annotation {name[:200]}: it is not about health")
    annotations = {**(body.host_config.annotations or {}), **changes}
    off = given.healthcheck is not None and given.healthcheck.test == ("NONE",)
    if off:
        annotations = {name: text for name, text in annotations.items() if name not in (HEALTH_STARTUP_CMD, *STARTUP)}
    found = replace(
        body,
        healthcheck=completed(given.healthcheck, body.healthcheck),
        host_config=replace(body.host_config, annotations=annotations or None),
    )
    startup, there = startup_check(annotations), check_of(found) is not None
    if not there and not off and (given.healthcheck is not None or startup is not None):
        raise InvalidInput("healthcheck command is not set", _HINT)
    if startup is None and any(name in changes for name in STARTUP):
        raise InvalidInput("startup healthcheck command is not set", "give it one: --health-startup-cmd")
    action = changes.get(HEALTH_ON_FAILURE, "none")
    if action != "none" and not there:
        raise InvalidInput(f"cannot set on-failure action to {action} without a health check", _HINT)
    return found
