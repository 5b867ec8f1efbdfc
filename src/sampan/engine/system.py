"""`info`, `version` and `system df`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import sampan
from sampan.engine import build_cache, device_requests, log_options
from sampan.engine.image_listing import images, reclaimable_bytes
from sampan.engine.listing import containers
from sampan.engine.requests import ImagesQuery
from sampan.engine.volume_verbs import usages
from sampan.errors import InvalidInput, SampanError
from sampan.spec import docker
from sampan.spec.distribution import go_architecture
from sampan.spec.host import CgroupMode
from sampan.spec.reference import DEFAULT_REGISTRY
from sampan.spec.settings import DEFAULT_REGISTRIES, Registries, Registry
from sampan.spec.state import Status
from sampan.units import format_timestamp

if TYPE_CHECKING:
    from sampan.engine.core import Core

API_VERSION = "1.50"
MIN_API_VERSION = "1.24"
_HUB = "https://index.docker.io/v1/"


def info(core: Core) -> docker.SystemInfo:
    """Return what `sampan info` shows."""
    host = core.host
    states = [container.state.status for container in core.registry]
    running, paused = states.count(Status.RUNNING), states.count(Status.PAUSED)
    controllers = host.cgroup_controllers
    name = os.uname()
    registries, fault = _registries(core)
    devices = device_requests.discovered(core)
    return docker.SystemInfo(
        id=core.instance,
        containers=len(states),
        containers_running=running,
        containers_paused=paused,
        containers_stopped=len(states) - running - paused,
        images=len(core.images.list()),
        driver="overlay2",
        driver_status=(("Backing Filesystem", _filesystem(core.dirs.root)), ("Layers", "by diff id")),
        plugins=docker.PluginsInfo(volume=("local",), network=_NETWORKS, log=log_options.DRIVERS),
        memory_limit="memory" in controllers,
        swap_limit=host.swap_accounting,
        cpu_cfs_period="cpu" in controllers,
        cpu_cfs_quota="cpu" in controllers,
        cpu_shares="cpu" in controllers,
        cpu_set="cpuset" in controllers,
        pids_limit="pids" in controllers,
        oom_kill_disable=host.cgroup_mode is CgroupMode.V1,
        n_fd=len(os.listdir("/proc/self/fd")),
        n_goroutines=len(os.listdir("/proc/self/task")),
        system_time=format_timestamp(_now()),
        cgroup_version="2" if host.cgroup_mode is CgroupMode.V2 else "1",
        kernel_version=name.release,
        operating_system=_os_release().get("PRETTY_NAME", "Linux"),
        os_version=_os_release().get("VERSION_ID", ""),
        architecture=host.architecture,
        ncpu=len(core.machine.cpus),
        mem_total=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        docker_root_dir=core.dirs.root,
        index_server_address=_index_server(registries),
        registry_config=_registry_config(registries),
        http_proxy=_without_password(os.environ.get("HTTP_PROXY", "")),
        https_proxy=_without_password(os.environ.get("HTTPS_PROXY", "")),
        no_proxy=os.environ.get("NO_PROXY", ""),
        name=name.nodename,
        server_version=sampan.__version__,
        runtimes={"sampan": docker.Runtime(path="sampan")},
        default_runtime="sampan",
        init_binary="sampan",
        security_options=_security_options(core),
        cdi_spec_dirs=device_requests.directories(core) if not fault else (),
        discovered_devices=tuple(docker.DeviceInfo(source="cdi", id=name) for name in sorted(devices.devices)) or None,
        warnings=(*_warnings(core), *(f"WARNING: CDI: {text}" for text in devices.faults), *fault) or None,
        server_pid=os.getpid(),
        keeper_pid=core.keeper_pid(),
        instance=core.instance,
    )


def _now() -> int:
    import time

    return time.time_ns()


def _filesystem(path: str) -> str:
    """Return the type of the filesystem that `path` is on: the longest mount point above it, proc(5)."""
    best = ("", "unknown")
    try:
        with open("/proc/self/mounts") as file:
            for line in file:
                _, point, type, *_ = line.split(" ")
                below = path == point or path.startswith(point.rstrip("/") + "/")
                if below and len(point) >= len(best[0]):
                    best = (point, type)
    except OSError:
        return "unknown"
    return best[1]


def _os_release() -> dict[str, str]:
    try:
        with open("/etc/os-release") as file:
            pairs = (line.strip().partition("=")[::2] for line in file if "=" in line)
            return {key: value.strip('"') for key, value in pairs}
    except OSError:
        return {}


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    return f"{scheme}://xxxxx:xxxxx@{host}" if separator and at and credentials else url


def _security_options(core: Core) -> tuple[str, ...]:
    host = core.host
    found = []
    if host.apparmor:
        found.append("name=apparmor")
    if host.seccomp:
        found.append("name=seccomp,profile=builtin")
    if host.selinux:
        found.append("name=selinux")
    with suppress(SampanError):  # what is wrong with the configuration is among the warnings
        found += ["name=userns"] if core.settings.read().userns.default != "host" else []
    return (*found, "name=cgroupns")


def _registries(core: Core) -> tuple[Registries, tuple[str, ...]]:
    """Return what is configured; where it can't be read, the default and a warning."""
    try:
        return core.settings.read().registries, ()
    except SampanError as e:
        return DEFAULT_REGISTRIES, (f"WARNING: {e.message}",)


def _index_server(registries: Registries) -> str:
    return _HUB if registries.default == DEFAULT_REGISTRY else registries.default


def _registry_config(registries: Registries) -> docker.RegistryServiceConfig:
    """Return registries as dockerd shows them; of mirrors, only Docker Hub's have a place there."""
    indexes = {
        host: docker.IndexInfo(name=host, mirrors=_urls(found), secure=not found.insecure)
        for host, found in registries.known.items()
    }
    hub = registries.known.get(DEFAULT_REGISTRY, Registry())
    indexes[DEFAULT_REGISTRY] = docker.IndexInfo(
        name=DEFAULT_REGISTRY, mirrors=_urls(hub), secure=not hub.insecure, official=True
    )
    return docker.RegistryServiceConfig(index_configs=indexes, mirrors=_urls(hub))


def _urls(registry: Registry) -> tuple[str, ...]:
    return tuple(f"{mirror if '://' in mirror else f'https://{mirror}'}/" for mirror in registry.mirrors)


def _warnings(core: Core) -> tuple[str, ...]:
    wanted = {"memory": "memory", "pids": "pids", "cpu": "cpu", "cpuset": "cpuset"}
    found = [f"WARNING: No {name} limit support" for name in wanted if name not in core.host.cgroup_controllers]
    if not core.host.swap_accounting:
        found.append("WARNING: No swap limit support")
    return tuple(found)


def version(core: Core) -> docker.SystemVersion:
    """Return what `sampan version` shows of the server."""
    name = os.uname()
    details = {
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": "linux",
        "Arch": go_architecture(core.host.architecture)[0],
        "KernelVersion": name.release,
        "Python": sys.version.split()[0],
    }
    return docker.SystemVersion(
        platform=docker.PlatformName(name="sampan"),
        components=(docker.ComponentVersion(name="Engine", version=sampan.__version__, details=details),),
        version=sampan.__version__,
        api_version=API_VERSION,
        min_api_version=MIN_API_VERSION,
        os="linux",
        arch=details["Arch"],
        kernel_version=name.release,
    )


_NETWORKS = ("bridge", "host", "ipvlan", "macvlan", "null")
KINDS = frozenset({"build-cache", "container", "image", "volume"})
"""What `disk_usage` can tell of."""


def disk_usage(core: Core, kinds: frozenset[str] = KINDS) -> docker.DiskUsage:
    """Return what takes how much room. The built-in image takes none and is left out."""
    if not kinds <= KINDS:
        unknown = ", ".join(sorted(kinds - KINDS))
        raise InvalidInput(f"unknown object type: {unknown}", f"there are {', '.join(sorted(KINDS))}")
    query = ImagesQuery(filters={"readonly": ("false",)}, shared_size=True)
    size, reclaimable = reclaimable_bytes(core) if "image" in kinds else (0, 0)
    return docker.DiskUsage(
        layers_size=size,
        layers_reclaimable=reclaimable,
        images=tuple(images(core, query)) if "image" in kinds else None,
        containers=tuple(containers(core, all=True, limit=0, size=True, filters={})) if "container" in kinds else None,
        volumes=tuple(usages(core)) if "volume" in kinds else None,
        build_cache=build_cache.records(core) if "build-cache" in kinds else None,
    )
