"""Bodies about the engine itself: version, info, events, disk usage, errors."""

from __future__ import annotations

from typing import Any

from sampan.spec.docker.body import Body, always, named
from sampan.spec.docker.container import ContainerSummary
from sampan.spec.docker.image import ImageSummary
from sampan.spec.docker.network import Volume


class ErrorResponse(Body, frozen=True, kw_only=True, rename=None):
    """The body of every answer with a status of 400 and above. `hint` and `kind`, a class of ours, are extensions."""

    message: str = always("")
    hint: str = ""
    kind: str = ""


class PlatformName(Body, frozen=True, kw_only=True):
    """What product this is."""

    name: str = always("")


class ComponentVersion(Body, frozen=True, kw_only=True):
    """One part of the engine."""

    name: str = always("")
    version: str = always("")
    details: dict[str, str] | None = None


class SystemVersion(Body, frozen=True, kw_only=True):
    """The engine's version."""

    platform: PlatformName | None = None
    components: tuple[ComponentVersion, ...] | None = None
    version: str = always("")
    api_version: str = always("", "ApiVersion")
    min_api_version: str = named("MinAPIVersion", "")
    git_commit: str = always("")
    go_version: str = always("")
    os: str = always("linux", "Os")
    arch: str = always("")
    kernel_version: str = ""
    experimental: bool = False
    build_time: str = ""


class PluginsInfo(Body, frozen=True, kw_only=True):
    """Drivers by what they are for."""

    volume: tuple[str, ...] = always(())
    network: tuple[str, ...] = always(())
    authorization: tuple[str, ...] | None = always(None)
    log: tuple[str, ...] = always(())


class Runtime(Body, frozen=True, kw_only=True, rename=None):
    """An OCI runtime."""

    path: str = ""
    runtime_args: tuple[str, ...] | None = named("runtimeArgs", None)
    status: dict[str, str] | None = None


class Commit(Body, frozen=True, kw_only=True):
    """A component's commit."""

    id: str = always("")
    expected: str | None = None  # until 1.48


class SwarmInfo(Body, frozen=True, kw_only=True):
    """Always inactive."""

    node_id: str = always("")
    node_addr: str = always("")
    local_node_state: str = always("inactive")
    control_available: bool = always(value=False)
    error: str = always("")
    remote_managers: tuple[dict[str, str], ...] | None = always(None)


class IndexInfo(Body, frozen=True, kw_only=True):
    """One registry as the engine sees it."""

    name: str = always("")
    mirrors: tuple[str, ...] = always(())
    secure: bool = always(value=True)
    official: bool = always(value=False)


class RegistryServiceConfig(Body, frozen=True, kw_only=True):
    """Registries, and those that are trusted without TLS."""

    insecure_registry_cidrs: tuple[str, ...] = always(("::1/128", "127.0.0.0/8"), "InsecureRegistryCIDRs")
    index_configs: dict[str, IndexInfo] = always({"docker.io": IndexInfo(name="docker.io", official=True)})
    mirrors: tuple[str, ...] = always(())


class DeviceInfo(Body, frozen=True, kw_only=True):
    """A device that a container can ask for by its name."""

    source: str = always("")
    id: str = always("", "ID")


class SystemInfo(Body, frozen=True, kw_only=True):
    """What `info` tells. The last fields are ours."""

    id: str = always("")
    containers: int = always(0)
    containers_running: int = always(0)
    containers_paused: int = always(0)
    containers_stopped: int = always(0)
    images: int = always(0)
    driver: str = always("overlay2")
    driver_status: tuple[tuple[str, str], ...] = always(())
    system_status: tuple[tuple[str, str], ...] | None = None
    plugins: PluginsInfo = always(PluginsInfo())
    memory_limit: bool = always(value=False)
    swap_limit: bool = always(value=False)
    kernel_memory: bool | None = None  # until 1.41
    kernel_memory_tcp: bool = False
    cpu_cfs_period: bool = always(value=False)
    cpu_cfs_quota: bool = always(value=False)
    cpu_shares: bool = always(value=False, name="CPUShares")
    cpu_set: bool = always(value=False, name="CPUSet")
    pids_limit: bool = always(value=False)
    ipv4_forwarding: bool = always(value=False)
    bridge_nf_iptables: bool | None = named("BridgeNfIptables", None)  # until 1.49
    bridge_nf_ip6tables: bool | None = named("BridgeNfIp6tables", None)
    debug: bool = always(value=False)
    n_fd: int = always(0)
    oom_kill_disable: bool = always(value=False)
    n_goroutines: int = always(0)
    system_time: str = always("")
    logging_driver: str = always("json-file")
    cgroup_driver: str = always("cgroupfs")
    cgroup_version: str = ""
    n_events_listener: int = always(0)
    kernel_version: str = always("")
    operating_system: str = always("")
    os_version: str = always("")
    os_type: str = always("linux")
    architecture: str = always("")
    index_server_address: str = always("https://index.docker.io/v1/")
    registry_config: RegistryServiceConfig = always(RegistryServiceConfig())
    ncpu: int = always(0)
    mem_total: int = always(0)
    generic_resources: tuple[dict[str, Any], ...] | None = always(None)
    docker_root_dir: str = always("")
    http_proxy: str = always("")
    https_proxy: str = always("")
    no_proxy: str = always("")
    name: str = always("")
    labels: tuple[str, ...] = always(())
    experimental_build: bool = always(value=False)
    server_version: str = always("")
    runtimes: dict[str, Runtime] = always({})
    default_runtime: str = always("")
    swarm: SwarmInfo = always(SwarmInfo())
    live_restore_enabled: bool = always(value=True)
    isolation: str = always("")
    init_binary: str = always("")
    containerd_commit: Commit = always(Commit())
    runc_commit: Commit = always(Commit())
    init_commit: Commit = always(Commit())
    security_options: tuple[str, ...] = always(())
    product_license: str = ""
    default_address_pools: tuple[dict[str, Any], ...] | None = None
    cdi_spec_dirs: tuple[str, ...] = always((), "CDISpecDirs")
    discovered_devices: tuple[DeviceInfo, ...] | None = None
    warnings: tuple[str, ...] | None = always(None)
    server_pid: int = 0
    keeper_pid: int = 0
    instance: str = ""


class EventActor(Body, frozen=True, kw_only=True):
    """What an event is about."""

    id: str = always("")
    attributes: dict[str, str] = always({})


class EventMessage(Body, frozen=True, kw_only=True):
    """One event. `status`, `id` and `from` are the older form that some clients still read."""

    status: str = named("status", "")
    legacy_id: str = named("id", "")
    legacy_from: str = named("from", "")
    type: str = always("")
    action: str = always("")
    actor: EventActor = always(EventActor())
    scope: str = named("scope", "")
    time: int = named("time", 0)
    time_nano: int = named("timeNano", 0)


class BuildCache(Body, frozen=True, kw_only=True):
    """What builds keep of one step or one mount. `parents` are the steps that it stands on."""

    id: str = always("", "ID")
    parent: str = ""  # until 1.41
    parents: tuple[str, ...] | None = None
    type: str = always("regular")
    description: str = always("")
    in_use: bool = always(value=False)
    shared: bool = always(value=False)
    size: int = always(0)
    created_at: str = always("")
    last_used_at: str | None = always(None)
    usage_count: int = always(0)


class DiskUsage(Body, frozen=True, kw_only=True):
    """What takes how much room. What was not asked for is None. `layers_reclaimable` is ours."""

    layers_size: int = 0
    layers_reclaimable: int | None = None
    builder_size: int | None = None  # until 1.41
    images: tuple[ImageSummary, ...] | None = always(None)
    containers: tuple[ContainerSummary, ...] | None = always(None)
    volumes: tuple[Volume, ...] | None = always(None)
    build_cache: tuple[BuildCache, ...] | None = always(None)
