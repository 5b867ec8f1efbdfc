"""Bodies about containers and execs: what a client asks for, and what it is told."""

from __future__ import annotations

from sampan.spec.docker.body import Body, Given, Int, always, named
from sampan.spec.docker.network import EndpointSettings, NetworkingConfig, NetworkSettings, Port, PortBinding
from sampan.spec.ending import Ending


class HealthConfig(Given, frozen=True, kw_only=True):
    """A health check; the times are nanoseconds, 0 inherits."""

    test: tuple[str, ...] | None = None
    interval: Int = 0
    timeout: Int = 0
    start_period: Int = 0
    start_interval: Int = 0
    retries: Int = 0


class ContainerConfig(Given, frozen=True, kw_only=True):
    """What of a container does not depend on the host it runs on: `Config` of inspect."""

    hostname: str = always("")
    domainname: str = always("")
    user: str = always("")
    attach_stdin: bool = always(value=False)
    attach_stdout: bool = always(value=False)
    attach_stderr: bool = always(value=False)
    exposed_ports: dict[str, dict[str, str]] | None = None
    tty: bool = always(value=False)
    open_stdin: bool = always(value=False)
    stdin_once: bool = always(value=False)
    env: tuple[str, ...] | None = always(None)
    cmd: tuple[str, ...] | None = always(None)
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = always("")
    volumes: dict[str, dict[str, str]] | None = always(None)
    working_dir: str = always("")
    entrypoint: tuple[str, ...] | None = always(None)
    network_disabled: bool = False
    mac_address: str = ""
    on_build: tuple[str, ...] | None = always(None)
    labels: dict[str, str] | None = always(None)
    stop_signal: str = ""
    stop_timeout: Int | None = None
    shell: tuple[str, ...] | None = None


class LogConfig(Given, frozen=True, kw_only=True):
    """The log driver and its options."""

    type: str = always("")
    config: dict[str, str] | None = always(None)


class RestartPolicy(Given, frozen=True, kw_only=True):
    """Whether a container that ended is started again."""

    name: str = always("")
    maximum_retry_count: Int = always(0)


class BindOptions(Given, frozen=True, kw_only=True):
    """Options of a mount of type bind."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeDriverConfig(Given, frozen=True, kw_only=True):
    """The driver that makes a volume."""

    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(Given, frozen=True, kw_only=True):
    """Options of a mount of type volume."""

    no_copy: bool = False
    labels: dict[str, str] | None = None
    subpath: str = ""
    driver_config: VolumeDriverConfig | None = None


class ImageOptions(Given, frozen=True, kw_only=True):
    """Options of a mount of type image."""

    subpath: str = ""


class TmpfsOptions(Given, frozen=True, kw_only=True):
    """Options of a mount of type tmpfs."""

    size_bytes: Int = 0
    mode: Int = 0
    options: tuple[tuple[str, ...], ...] | None = None


class ClusterOptions(Given, frozen=True, kw_only=True):
    """Options of a mount of type cluster: none."""


class Mount(Given, frozen=True, kw_only=True):
    """One mount asked for with `--mount`."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    cluster_options: ClusterOptions | None = None


class DeviceMapping(Given, frozen=True, kw_only=True):
    """A device of the host shown in the container."""

    path_on_host: str = always("")
    path_in_container: str = always("")
    cgroup_permissions: str = always("")


class DeviceRequest(Given, frozen=True, kw_only=True):
    """Devices asked for by a driver's name, as for `--gpus`."""

    driver: str = always("")
    count: Int = always(0)
    device_ids: tuple[str, ...] | None = always(None, "DeviceIDs")
    capabilities: tuple[tuple[str, ...], ...] | None = always(None)
    options: dict[str, str] | None = always(None)


class WeightDevice(Given, frozen=True, kw_only=True):
    """A device's share of block I/O."""

    path: str = always("")
    weight: Int = always(0)


class ThrottleDevice(Given, frozen=True, kw_only=True):
    """A device's limit of block I/O, per second."""

    path: str = always("")
    rate: Int = always(0)


class Ulimit(Given, frozen=True, kw_only=True):
    """A resource limit of setrlimit(2), by the name without RLIMIT_."""

    name: str = always("")
    hard: Int = always(0)
    soft: Int = always(0)


class Resources(Given, frozen=True, kw_only=True):
    """Limits: the part of HostConfig that an update may change too."""

    cpu_shares: Int = always(0)
    memory: Int = always(0)
    nano_cpus: Int = always(0)
    cgroup_parent: str = always("")
    blkio_weight: Int = always(0)
    blkio_weight_device: tuple[WeightDevice, ...] | None = always(None)
    blkio_device_read_bps: tuple[ThrottleDevice, ...] | None = always(None)
    blkio_device_write_bps: tuple[ThrottleDevice, ...] | None = always(None)
    blkio_device_read_iops: tuple[ThrottleDevice, ...] | None = always(None)
    blkio_device_write_iops: tuple[ThrottleDevice, ...] | None = always(None)
    cpu_period: Int = always(0)
    cpu_quota: Int = always(0)
    cpu_realtime_period: Int = always(0)
    cpu_realtime_runtime: Int = always(0)
    cpuset_cpus: str = always("")
    cpuset_mems: str = always("")
    devices: tuple[DeviceMapping, ...] | None = always(None)
    device_cgroup_rules: tuple[str, ...] | None = always(None)
    device_requests: tuple[DeviceRequest, ...] | None = always(None)
    kernel_memory: Int = 0  # until 1.41
    kernel_memory_tcp: Int = 0
    memory_reservation: Int = always(0)
    memory_swap: Int = always(0)
    memory_swappiness: Int | None = always(None)
    oom_kill_disable: bool | None = always(None)
    pids_limit: Int | None = always(None)
    ulimits: tuple[Ulimit, ...] | None = always(None)
    cpu_count: Int = always(0)
    cpu_percent: Int = always(0)
    io_maximum_iops: Int = always(0)
    io_maximum_bandwidth: Int = always(0)


class HostConfig(Resources, frozen=True, kw_only=True):
    """What of a container depends on the host: every field of 1.50, so that what isn't built can be refused."""

    binds: tuple[str, ...] | None = always(None)
    container_id_file: str = always("", "ContainerIDFile")
    log_config: LogConfig = always(LogConfig())
    network_mode: str = always("")
    port_bindings: dict[str, tuple[PortBinding, ...] | None] | None = always(None)
    restart_policy: RestartPolicy = always(RestartPolicy())
    auto_remove: bool = always(value=False)
    volume_driver: str = always("")
    volumes_from: tuple[str, ...] | None = always(None)
    mounts: tuple[Mount, ...] | None = None
    console_size: tuple[Int, Int] = always((0, 0))  # rows, columns
    annotations: dict[str, str] | None = None
    cap_add: tuple[str, ...] | None = always(None)
    cap_drop: tuple[str, ...] | None = always(None)
    cgroupns_mode: str = always("")
    dns: tuple[str, ...] | None = always(None)
    dns_options: tuple[str, ...] | None = always(None)
    dns_search: tuple[str, ...] | None = always(None)
    extra_hosts: tuple[str, ...] | None = always(None)
    group_add: tuple[str, ...] | None = always(None)
    ipc_mode: str = always("")
    cgroup: str = always("")
    links: tuple[str, ...] | None = always(None)
    oom_score_adj: Int = always(0)
    pid_mode: str = always("")
    privileged: bool = always(value=False)
    publish_all_ports: bool = always(value=False)
    readonly_rootfs: bool = always(value=False)
    security_opt: tuple[str, ...] | None = always(None)
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = always("")
    userns_mode: str = always("")
    shm_size: Int = always(0)
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = always("")
    masked_paths: tuple[str, ...] | None = always(None)
    readonly_paths: tuple[str, ...] | None = always(None)
    init: bool | None = None


class IdMappings(Body, frozen=True, kw_only=True):
    """Which ids of the host a container's users and groups are: each CONTAINER:HOST:COUNT. Of Podman's `inspect`."""

    uid_map: tuple[str, ...] = always(())
    gid_map: tuple[str, ...] = always(())


class MappedHostConfig(HostConfig, frozen=True, kw_only=True):
    """HostConfig as `inspect` has it of a container with a user namespace."""

    id_mappings: IdMappings = always(IdMappings(), "IDMappings")


class ContainerCreate(ContainerConfig, frozen=True, kw_only=True):
    """The body of `POST /containers/create`: the config, and beside its fields two more objects."""

    host_config: HostConfig = always(HostConfig())
    networking_config: NetworkingConfig | None = None


class ContainerCreateResponse(Body, frozen=True, kw_only=True):
    """The new container's id."""

    id: str = always("", "Id")
    warnings: tuple[str, ...] = always(())


class ContainerUpdate(Resources, frozen=True, kw_only=True):
    """The body of `POST /containers/{id}/update`."""

    restart_policy: RestartPolicy | None = None


class HealthUpdate(Given, frozen=True, kw_only=True):
    """The body of `POST /sampan/containers/{id}/healthcheck`: what changes. Annotations are those about health."""

    healthcheck: HealthConfig | None = None
    annotations: dict[str, str] | None = None


class ContainerUpdateResponse(Body, frozen=True, kw_only=True):
    """What an update has to say."""

    warnings: tuple[str, ...] | None = always(None)


class HealthcheckResult(Body, frozen=True, kw_only=True):
    """One run of a health check."""

    start: str = always("")
    end: str = always("")
    exit_code: int = always(0)
    output: str = always("")


class HealthStartup(Body, frozen=True, kw_only=True):
    """How often a container's startup check has ended in which way. Sampan's own."""

    successes: int = always(0)
    failures: int = always(0)


class Health(Body, frozen=True, kw_only=True):
    """A container's health and its latest checks."""

    status: str = always("")
    failing_streak: int = always(0)
    log: tuple[HealthcheckResult, ...] | None = always(None)
    startup: HealthStartup | None = None


class ContainerState(Body, frozen=True, kw_only=True):
    """A container's state. Times are RFC 3339 with nanoseconds; `0001-01-01T00:00:00Z` means never."""

    status: str = always("created")
    running: bool = always(value=False)
    paused: bool = always(value=False)
    restarting: bool = always(value=False)
    oom_killed: bool = always(value=False, name="OOMKilled")
    dead: bool = always(value=False)
    pid: int = always(0)
    exit_code: int = always(0)
    error: str = always("")
    started_at: str = always("0001-01-01T00:00:00Z")
    finished_at: str = always("0001-01-01T00:00:00Z")
    health: Health | None = None
    ending: Ending | None = None  # sampan's own: the facts of the latest


class MountPoint(Body, frozen=True, kw_only=True):
    """One mount as it is."""

    type: str = ""
    name: str = ""
    source: str = always("")
    destination: str = always("")
    driver: str = ""
    mode: str = always("")
    rw: bool = always(value=True)
    propagation: str = always("")


class GraphDriver(Body, frozen=True, kw_only=True):
    """Where a root filesystem is kept: for overlay2 LowerDir, UpperDir, MergedDir, WorkDir."""

    data: dict[str, str] | None = always(None)
    name: str = always("overlay2")


class ContainerInspectResponse(Body, frozen=True, kw_only=True):
    """All there is to know about a container."""

    id: str = always("", "Id")
    created: str = always("")
    path: str = always("")
    args: tuple[str, ...] = always(())
    state: ContainerState = always(ContainerState())
    image: str = always("")  # the image's id
    resolv_conf_path: str = always("")
    hostname_path: str = always("")
    hosts_path: str = always("")
    log_path: str = always("")
    name: str = always("")  # with its slash
    restart_count: int = always(0)
    driver: str = always("overlay2")
    platform: str = always("linux")
    mount_label: str = always("")
    process_label: str = always("")
    app_armor_profile: str = always("")
    exec_ids: tuple[str, ...] | None = always(None, "ExecIDs")
    host_config: HostConfig = always(HostConfig())
    graph_driver: GraphDriver = always(GraphDriver())
    size_rw: int | None = named("SizeRw", None)
    size_root_fs: int | None = None
    mounts: tuple[MountPoint, ...] = always(())
    config: ContainerConfig = always(ContainerConfig())
    network_settings: NetworkSettings = always(NetworkSettings())


class SummaryHostConfig(Body, frozen=True, kw_only=True):
    """What a list tells of HostConfig."""

    network_mode: str = ""
    annotations: dict[str, str] | None = None


class SummaryNetworkSettings(Body, frozen=True, kw_only=True):
    """What a list tells of a container's networks."""

    networks: dict[str, EndpointSettings] = always({})


class ContainerSummary(Body, frozen=True, kw_only=True):
    """One line of `ps`."""

    id: str = always("", "Id")
    names: tuple[str, ...] = always(())  # with their slash
    image: str = always("")
    image_id: str = always("")
    command: str = always("")
    created: int = always(0)  # seconds since 1970
    ports: tuple[Port, ...] = always(())
    size_rw: int = named("SizeRw", 0)
    size_root_fs: int = 0
    labels: dict[str, str] = always({})
    state: str = always("")
    status: str = always("")
    host_config: SummaryHostConfig = always(SummaryHostConfig())
    network_settings: SummaryNetworkSettings = always(SummaryNetworkSettings())
    mounts: tuple[MountPoint, ...] = always(())


class ContainerTopResponse(Body, frozen=True, kw_only=True):
    """The processes in a container, in ps's columns."""

    processes: tuple[tuple[str, ...], ...] = always(())
    titles: tuple[str, ...] = always(())


class ContainerWaitExitError(Body, frozen=True, kw_only=True):
    """Why waiting failed."""

    message: str = ""


class ContainerWaitResponse(Body, frozen=True, kw_only=True):
    """How a container ended."""

    error: ContainerWaitExitError | None = None
    status_code: int = always(0)


class PathChange(Body, frozen=True, kw_only=True):
    """A path that a container changed: kind 0 modified, 1 added, 2 deleted."""

    path: str = always("")
    kind: int = always(0)


class IdResponse(Body, frozen=True, kw_only=True):
    """Something made, by its id."""

    id: str = always("", "Id")


class ExecConfig(Given, frozen=True, kw_only=True):
    """The body of `POST /containers/{id}/exec`."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[Int, Int] | None = None
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach_keys: str = ""
    env: tuple[str, ...] | None = None
    working_dir: str = ""
    cmd: tuple[str, ...] | None = None
    detach: bool = False  # older clients send it here too; it has no effect
    container: str = ""  # docker-py says it once more; the path counts


class ExecStartConfig(Given, frozen=True, kw_only=True):
    """The body of `POST /exec/{id}/start`."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[Int, Int] | None = None


class ProcessConfig(Body, frozen=True, kw_only=True, rename=None):
    """An exec's program. Docker writes these names in lower case."""

    tty: bool = always(value=False)
    entrypoint: str = always("")
    arguments: tuple[str, ...] = always(())
    privileged: bool | None = None
    user: str = ""


class ExecInspectResponse(Body, frozen=True, kw_only=True):
    """All there is to know about an exec."""

    id: str = always("")
    running: bool = always(value=False)
    exit_code: int | None = always(None)
    process_config: ProcessConfig = always(ProcessConfig())
    open_stdin: bool = always(value=False)
    open_stderr: bool = always(value=False)
    open_stdout: bool = always(value=False)
    can_remove: bool = always(value=False)
    container_id: str = always("")
    detach_keys: str = always("")
    pid: int = always(0)
