"""A create body completed: what the image says where the user said nothing, and Docker's defaults. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.engine.health_policy import completed
from sampan.engine.security import MASKED_PATHS, READONLY_PATHS
from sampan.errors import InvalidInput
from sampan.spec.annotations import IMAGE_VOLUME, UNSETENV_ALL
from sampan.spec.docker import ContainerCreate, HostConfig, LogConfig, RestartPolicy
from sampan.spec.network import DEFAULT
from sampan.units import parse_signal

if TYPE_CHECKING:
    from sampan.spec.image import ExecutionConfig


SHM_BYTES = 64 << 20
_NAMESPACE_MODES = {
    "pid_mode": ("PID", ("", "host")),
    "ipc_mode": ("IPC", ("", "none", "host", "private", "shareable")),
    "uts_mode": ("UTS", ("", "host")),
    "cgroupns_mode": ("cgroup namespace", ("", "private", "host")),
}
JOINABLE = ("pid_mode", "ipc_mode", "network_mode", "uts_mode", "cgroupns_mode")


def complete(body: ContainerCreate, image: ExecutionConfig) -> ContainerCreate:
    """Return the body as `inspect` will show it. Raises InvalidInput where body and image together make no sense."""
    entrypoint, cmd = _command(body, image)
    if not entrypoint and not cmd:
        raise InvalidInput("no command specified", "name a program after the image")
    for text in body.env or ():
        if not text or text.startswith("="):
            raise InvalidInput(f"invalid environment variable: {text}")
    working_dir = body.working_dir or image.working_dir or ""
    if working_dir and not working_dir.startswith("/"):
        raise InvalidInput(f"the working directory '{working_dir}' is invalid, it needs to be an absolute path")
    stop_signal = body.stop_signal or image.stop_signal or ""
    if stop_signal:
        parse_signal(stop_signal)
    return msgspec.structs.replace(
        body,
        entrypoint=entrypoint,
        cmd=cmd,
        env=_environment(body, image.env),
        working_dir=working_dir,
        user=body.user or image.user or "",
        labels={**(image.labels or {}), **(body.labels or {})},
        exposed_ports={**(image.exposed_ports or {}), **(body.exposed_ports or {})} or None,
        volumes={**(image.volumes or {} if image_volume(body.host_config) == "bind" else {}), **(body.volumes or {})}
        or None,
        stop_signal=stop_signal,
        stop_timeout=body.stop_timeout if body.stop_timeout is not None else image.stop_timeout,
        shell=body.shell or image.shell,
        healthcheck=completed(body.healthcheck, image.healthcheck),
        host_config=_complete_host(body.host_config),
    )


def image_volume(host_config: HostConfig) -> str:
    """Return what becomes of the image's VOLUMEs: bind, tmpfs or ignore. Raises InvalidInput in Podman's words."""
    kind = (host_config.annotations or {}).get(IMAGE_VOLUME, "bind")
    if kind not in ("bind", "anonymous", "tmpfs", "ignore"):
        raise InvalidInput(f'invalid image-volume type "{kind}". Pick one of bind, tmpfs, or ignore')
    return "bind" if kind == "anonymous" else kind


def _command(body: ContainerCreate, image: ExecutionConfig) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Entrypoint and command: a given entrypoint, also the empty one `[""]`, does away with the image's command."""
    entrypoint, cmd = body.entrypoint, body.cmd
    if not entrypoint:
        cmd = cmd or image.cmd
        entrypoint = image.entrypoint if entrypoint is None else None
    if entrypoint and tuple(entrypoint) == ("",):
        entrypoint = None
    return entrypoint or None, cmd or None


def _environment(body: ContainerCreate, image: tuple[str, ...] | None) -> tuple[str, ...]:
    given, unset = body.env, (body.host_config.annotations or {}).get(UNSETENV_ALL, "false")
    if unset not in ("true", "false"):
        raise InvalidInput(f"invalid annotation {UNSETENV_ALL}: {unset[:80]!r}", "it is true or false")
    if unset == "true":
        return given or ()
    names = {text.partition("=")[0] for text in given or ()}
    return (*(given or ()), *(text for text in image or () if text.partition("=")[0] not in names))


def _complete_host(host_config: HostConfig) -> HostConfig:
    _check_modes(host_config)
    log = host_config.log_config
    privileged = host_config.privileged
    masked, readonly = host_config.masked_paths, host_config.readonly_paths
    swap = host_config.memory_swap or (2 * host_config.memory if host_config.memory > 0 else 0)
    return msgspec.structs.replace(
        host_config,
        network_mode=DEFAULT if host_config.network_mode in ("", "default") else host_config.network_mode,
        ipc_mode=host_config.ipc_mode or "private",
        cgroupns_mode=host_config.cgroupns_mode or ("host" if privileged else "private"),
        shm_size=host_config.shm_size or SHM_BYTES,
        memory_swap=swap,
        log_config=LogConfig(type=log.type or "json-file", config=log.config or {}),
        restart_policy=host_config.restart_policy if host_config.restart_policy.name else RestartPolicy(name="no"),
        masked_paths=masked if masked is not None else (() if privileged else MASKED_PATHS),
        readonly_paths=readonly if readonly is not None else (() if privileged else READONLY_PATHS),
        runtime="sampan",
        memory_swappiness=None if host_config.memory_swappiness == -1 else host_config.memory_swappiness,
        pids_limit=None if (host_config.pids_limit or 0) <= 0 else host_config.pids_limit,
    )


def _check_modes(host_config: HostConfig) -> None:
    for field, (words, allowed) in _NAMESPACE_MODES.items():
        mode: str = getattr(host_config, field)
        if mode in allowed or (field in JOINABLE and joined(mode)):
            continue
        raise InvalidInput(f"invalid {words} mode: {mode}")
    if host_config.shm_size < 0:
        raise InvalidInput(f"SHM size can not be less than 0: {host_config.shm_size}")


def joined(mode: str) -> str:
    """Return the container that `container:NAME` names, or ""."""
    return mode.partition(":")[2] if mode.startswith("container:") else ""
