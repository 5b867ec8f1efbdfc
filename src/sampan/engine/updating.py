"""`update`: other limits and another restart policy for a container, at once if it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from sampan.engine import block_io, resources, restart_policy
from sampan.engine.core import encode
from sampan.engine.lifecycle import Verb
from sampan.engine.reaching import ask
from sampan.engine.unbuilt import refuse_fields
from sampan.errors import Conflict, InvalidInput, NotFound, Unsupported, doing
from sampan.runtime.cgroups import groups, writes
from sampan.spec.docker import ContainerUpdateResponse, HostConfig
from sampan.spec.docker.body import docker_name
from sampan.spec.docker.container import Resources as Limits
from sampan.spec.runtime import Pids
from sampan.spec.state import Status
from sampan.supervise import messages

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.docker import ContainerUpdate

_ONLY_AT_CREATION = (
    "cgroup_parent", "devices", "device_cgroup_rules", "device_requests", "memory_swappiness", "oom_kill_disable",
    "ulimits",
)  # fmt: skip


def update(core: Core, container: Container, given: ContainerUpdate) -> ContainerUpdateResponse:
    """Change the limits and the restart policy: all of it, or nothing."""
    refuse_fields(given, "")
    with container.lock:
        if container.removed or container.state.status in (Status.REMOVING, Status.DEAD):
            raise NotFound(f"No such container: {container.name}")
        warnings: list[str] = []
        host_config = merged(container.body.host_config, given)
        restart_policy.check(host_config.restart_policy, auto_remove=host_config.auto_remove)
        spec = core.spec(container)
        asked = block_io.block_io(host_config, core.host, warnings if given.blkio_weight else [])
        devices = spec.linux.resources.devices if spec.linux.resources else ()
        limits = resources.resources(host_config, core.host, core.machine, devices, warnings, asked)
        with doing(f"Cannot update container {container.id}"):
            body = replace(container.body, host_config=host_config)
            if container.running:
                pids = limits.pids or (Pids(limit=-1) if given.pids_limit is not None else None)
                table = tuple(writes(replace(limits, devices=(), pids=pids), core.host.cgroup_mode))
                if table:
                    needed = groups(core.host, spec.linux.cgroups_path, limits)
                    ask(container, Verb.UPDATE, messages.Update(writes=table, groups=needed), messages.Done)
            spec = replace(spec, linux=replace(spec.linux, resources=limits))
            core.store.set_body(container.id, encode(body), spec=encode(spec))
            container.body = body
            container.spec = None
    core.tell(container, "update")
    return ContainerUpdateResponse(warnings=tuple(warnings) or None)


def merged(ours: HostConfig, given: ContainerUpdate) -> HostConfig:
    """Return the request's values over those of the container, where it has any. Pure. Docker's words for conflicts."""
    for name in _ONLY_AT_CREATION:
        if getattr(given, name) not in (None, "", ()):
            raise Unsupported(f"unsupported: update of {docker_name(name)}", "it is set when the container is made")
    changes = {
        field.name: value
        for field in msgspec.structs.fields(Limits)
        if (value := getattr(given, field.name)) not in (None, 0, "", ())
    }
    if given.pids_limit is not None:
        changes["pids_limit"] = given.pids_limit if given.pids_limit > 0 else None
    _check(ours, given)
    if given.restart_policy is not None and given.restart_policy.name:
        if ours.auto_remove and given.restart_policy.name != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        changes["restart_policy"] = given.restart_policy
    return replace(ours, **changes)


def _check(ours: HostConfig, given: ContainerUpdate) -> None:
    if given.nano_cpus and (ours.cpu_period or ours.cpu_quota):
        other = "Period" if ours.cpu_period else "Quota"
        raise Conflict(f"Conflicting options: Nano CPUs cannot be updated as CPU {other} has already been set")
    if ours.nano_cpus and (given.cpu_period or given.cpu_quota):
        other = "Period" if given.cpu_period else "Quota"
        raise Conflict(f"Conflicting options: CPU {other} cannot be updated as NanoCPUs has already been set")
    if given.memory and not given.memory_swap and 0 < ours.memory_swap < given.memory:
        raise InvalidInput(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            "--memory-swap is memory and swap together; -1 is no limit",
        )
