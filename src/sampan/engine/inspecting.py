"""`inspect`: everything about one container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.engine.log_options import log_file
from sampan.engine.network_settings import network_settings
from sampan.engine.translate import rootfs_of
from sampan.spec.decoding import convert
from sampan.spec.docker import (
    ContainerConfig,
    ContainerInspectResponse,
    ContainerState,
    GraphDriver,
    Health,
    HealthcheckResult,
    HealthStartup,
    IdMappings,
    MappedHostConfig,
    MountPoint,
)
from sampan.spec.state import Health as Known, Probe, Startup, State, Status
from sampan.units import ZERO_TIME, format_timestamp

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.docker import HostConfig
    from sampan.spec.image import Rootfs
    from sampan.spec.runtime import Spec

_CONFIG_FIELDS = tuple(field.name for field in msgspec.structs.fields(ContainerConfig))


def inspect(core: Core, container: Container, *, size: bool) -> ContainerInspectResponse:
    """Return it in Docker's form."""
    body = container.body
    words = (*(body.entrypoint or ()), *(body.cmd or ()))
    directory = core.dirs.container(container.id)
    spec = core.spec(container)
    config = ContainerConfig(**{name: getattr(body, name) for name in _CONFIG_FIELDS})
    return ContainerInspectResponse(
        id=container.id,
        created=format_timestamp(container.created_ns),
        path=words[0] if words else "",
        args=words[1:],
        state=state_of(container.state),
        image=container.image_id,
        resolv_conf_path=f"{directory}/resolv.conf",
        hostname_path=f"{directory}/hostname",
        hosts_path=f"{directory}/hosts",
        log_path=(log_file(core, container).path or "") if body.host_config.log_config.type == "json-file" else "",
        name=f"/{container.name}",
        restart_count=container.state.restart_count,
        app_armor_profile=spec.process.apparmor_profile if spec.process else "",
        exec_ids=tuple(id for id in tuple(container.execs) if id in core.execs and core.execs[id].running) or None,
        host_config=_mapped(body.host_config, spec) if spec.linux.uid_mappings else body.host_config,
        graph_driver=_graph_driver(rootfs_of(spec), directory),
        size_rw=core.snapshots.usage(container.id) if size else None,
        size_root_fs=_size(core, container) if size else None,
        mounts=mount_points(container),
        config=msgspec.structs.replace(config, hostname=spec.hostname, image=container.image_name),
        network_settings=network_settings(core, container),
    )


def _mapped(host_config: HostConfig, spec: Spec) -> MappedHostConfig:
    uids, gids = (
        tuple(f"{row.container_id}:{row.host_id}:{row.size}" for row in rows)
        for rows in (spec.linux.uid_mappings, spec.linux.gid_mappings)
    )
    fields = {name: getattr(host_config, name) for name in host_config.__struct_fields__}
    return MappedHostConfig(**fields, id_mappings=IdMappings(uid_map=uids, gid_map=gids))


def _size(core: Core, container: Container) -> int:
    from sampan.engine.listing import summary

    return summary(core, container, size=True).size_root_fs


def state_of(state: State) -> ContainerState:
    """Return the state in Docker's form."""
    return ContainerState(
        status=state.status.value,
        running=state.active,
        paused=state.status is Status.PAUSED,
        restarting=state.status is Status.RESTARTING,
        oom_killed=state.oom_killed,
        dead=state.status is Status.DEAD,
        pid=state.pid,
        exit_code=state.exit_code,
        error=state.error,
        started_at=format_timestamp(state.started_at_ns) if state.started_at_ns else ZERO_TIME,
        finished_at=format_timestamp(state.finished_at_ns) if state.finished_at_ns else ZERO_TIME,
        health=health_of(state.health) if state.health else None,
        ending=state.ending,
    )


def health_of(health: Known) -> Health:
    """Return a container's health in Docker's form, with how far its startup check is."""
    log = tuple(map(result_of, health.log))
    startup = convert(health.startup, HealthStartup, from_attributes=True) if health.startup != Startup() else None
    return Health(status=health.status, failing_streak=health.failing_streak, log=log, startup=startup)


def result_of(probe: Probe) -> HealthcheckResult:
    """Return one run of a check in Docker's form."""
    start, end = format_timestamp(probe.start_ns), format_timestamp(probe.end_ns)
    return HealthcheckResult(start=start, end=end, exit_code=probe.exit_code, output=probe.output)


def _graph_driver(rootfs: Rootfs, directory: str) -> GraphDriver:
    if not rootfs.upperdir:
        return GraphDriver(name="", data={"MergedDir": rootfs.path})
    data = {
        "LowerDir": ":".join(rootfs.lowerdirs),
        "MergedDir": f"{directory}/rootfs",
        "UpperDir": f"{directory}/upper",
        "WorkDir": f"{directory}/work",
    }
    return GraphDriver(name="overlay2", data=data)


def mount_points(container: Container) -> tuple[MountPoint, ...]:
    """Return the mounts that were asked for."""
    return tuple(
        MountPoint(
            type=mount.type,
            name=mount.name if mount.type in ("volume", "image") else "",
            source=mount.source,
            destination=mount.target,
            driver="local" if mount.type == "volume" else "",
            mode=mount.mode,
            rw=not mount.readonly,
            propagation="" if mount.type != "bind" else mount.propagation,
        )
        for mount in container.mounts
        if mount.shown
    )
