"""What `containers.run` and `create` take, in Python's words, and how it becomes Docker's bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict

from sampan.errors import InvalidInput
from sampan.spec import docker
from sampan.spec.annotations import SECRETS
from sampan.spec.cdi_names import split
from sampan.units import parse_bytes, parse_cpus, parse_port

if TYPE_CHECKING:
    from collections.abc import Sequence


class RunOptions(TypedDict, total=False):
    """The options of a new container. Sizes are bytes, or text such as "512m"."""

    name: str
    hostname: str
    domainname: str
    environment: Mapping[str, str] | Sequence[str]
    labels: Mapping[str, str]
    entrypoint: str | Sequence[str]
    working_dir: str
    user: str
    group_add: Sequence[str]
    tty: bool
    stdin_open: bool
    init: bool
    stop_signal: str
    stop_timeout: int
    platform: str
    volumes: Sequence[str]
    """Binds, "/srv:/srv:ro"."""
    mounts: Sequence[docker.Mount]
    tmpfs: Mapping[str, str]
    secrets: Sequence[str]
    """What `--secret` takes: "name", "name,type=env,target=VARIABLE"."""
    read_only: bool
    shm_size: int | str
    devices: Sequence[str]
    """Of the host, "/dev/fuse", "/dev/kmsg:/dev/log:r"; of CDI files, "vendor.com/class=name"."""
    gpus: int | str
    """So many, or "all"."""
    network: str
    """A network, or none, host, container:NAME."""
    networks: Mapping[str, docker.EndpointSettings | None] | Sequence[str]
    """Several, and what is asked of each (see `client.endpoint`); the first is `network` if that is not given."""
    ports: Sequence[str]
    """Published, "8080:80", "127.0.0.1:8080:80/udp"; "80" alone: at any port of the host."""
    publish_all_ports: bool
    links: Sequence[str]
    dns: Sequence[str]
    dns_options: Sequence[str]
    dns_search: Sequence[str]
    extra_hosts: Sequence[str]
    """Lines of /etc/hosts, "name:address"."""
    pid: str
    ipc: str
    uts: str
    cgroupns: str
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    security_opt: Sequence[str]
    userns: str
    """`--userns`: host, remap, auto, …"""
    privileged: bool
    sysctls: Mapping[str, str]
    ulimits: Mapping[str, int | tuple[int, int]]
    """By name: the limit, or (soft, hard)."""
    memory: int | str
    memory_swap: int | str
    memory_reservation: int | str
    cpus: float | str
    cpu_shares: int
    cpu_quota: int
    cpu_period: int
    cpuset_cpus: str
    cpuset_mems: str
    pids_limit: int
    cgroup_parent: str
    log_driver: str
    """json-file, local, syslog, journald or none."""
    log_options: Mapping[str, str]
    auto_remove: bool


def body(image: str, command: str | Sequence[str] | None, options: RunOptions) -> docker.ContainerCreate:
    """Return the body of a create. Raises InvalidInput for an option that there is not."""
    unknown = options.keys() - RunOptions.__annotations__.keys()
    if unknown:
        raise InvalidInput(f"can't create a container: no such option: {', '.join(sorted(unknown))}")
    return docker.ContainerCreate(
        image=image,
        cmd=words(command),
        entrypoint=words(options.get("entrypoint")),
        env=environment(options.get("environment")),
        labels=dict(options.get("labels", {})) or None,
        hostname=options.get("hostname", ""),
        domainname=options.get("domainname", ""),
        working_dir=options.get("working_dir", ""),
        user=options.get("user", ""),
        tty=options.get("tty", False),
        open_stdin=options.get("stdin_open", False),
        stdin_once=options.get("stdin_open", False),
        attach_stdin=options.get("stdin_open", False),
        attach_stdout=True,
        attach_stderr=True,
        stop_signal=options.get("stop_signal", ""),
        stop_timeout=options.get("stop_timeout"),
        exposed_ports={port: {} for port in bindings(options.get("ports")) or ()} or None,
        host_config=_host_config(options),
        networking_config=_networks(options),
    )


def _networks(options: RunOptions) -> docker.NetworkingConfig | None:
    given = options.get("networks", ())
    if isinstance(given, str):
        raise InvalidInput(f"can't use {given!r}: a list of networks is wanted, not a string")
    settings = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
    if not settings:
        return None
    if options.get("network"):
        settings = {options["network"]: settings.pop(options["network"], None), **settings}
    return docker.NetworkingConfig(
        endpoints_config={name: each or docker.EndpointSettings() for name, each in settings.items()}
    )


def _host_config(options: RunOptions) -> docker.HostConfig:
    return docker.HostConfig(
        binds=_strings(options.get("volumes")),
        mounts=tuple(options.get("mounts", ())) or None,
        tmpfs=dict(options.get("tmpfs", {})) or None,
        annotations=_annotations(options),
        readonly_rootfs=options.get("read_only", False),
        shm_size=_bytes(options.get("shm_size", 0)),
        devices=tuple(_device(text) for text in options.get("devices", ()) if not split(text)) or None,
        device_requests=_device_requests(options),
        group_add=_strings(options.get("group_add")),
        init=options.get("init"),
        network_mode=options.get("network", "") or next(iter(options.get("networks", ())), ""),
        port_bindings=bindings(options.get("ports")),
        publish_all_ports=options.get("publish_all_ports", False),
        links=_strings(options.get("links")),
        dns=_strings(options.get("dns")),
        dns_options=_strings(options.get("dns_options")),
        dns_search=_strings(options.get("dns_search")),
        extra_hosts=_strings(options.get("extra_hosts")),
        pid_mode=options.get("pid", ""),
        ipc_mode=options.get("ipc", ""),
        uts_mode=options.get("uts", ""),
        cgroupns_mode=options.get("cgroupns", ""),
        userns_mode=options.get("userns", ""),
        cap_add=_strings(options.get("cap_add")),
        cap_drop=_strings(options.get("cap_drop")),
        security_opt=_strings(options.get("security_opt")),
        privileged=options.get("privileged", False),
        sysctls=dict(options.get("sysctls", {})) or None,
        ulimits=_ulimits(options.get("ulimits", {})),
        memory=_bytes(options.get("memory", 0)),
        memory_swap=_bytes(options.get("memory_swap", 0)),
        memory_reservation=_bytes(options.get("memory_reservation", 0)),
        nano_cpus=parse_cpus(str(options["cpus"])) if "cpus" in options else 0,
        cpu_shares=options.get("cpu_shares", 0),
        cpu_quota=options.get("cpu_quota", 0),
        cpu_period=options.get("cpu_period", 0),
        cpuset_cpus=options.get("cpuset_cpus", ""),
        cpuset_mems=options.get("cpuset_mems", ""),
        pids_limit=options.get("pids_limit"),
        cgroup_parent=options.get("cgroup_parent", ""),
        log_config=docker.LogConfig(
            type=options.get("log_driver", ""), config=dict(options.get("log_options", {})) or None
        ),
        auto_remove=options.get("auto_remove", False),
    )


def _annotations(options: RunOptions) -> dict[str, str] | None:
    secrets = _strings(options.get("secrets"))
    return {SECRETS: "\n".join(secrets)} if secrets else None


def _device(text: str) -> docker.DeviceMapping:
    host, _, rest = text.partition(":")
    inside, _, access = rest.partition(":")
    return docker.DeviceMapping(path_on_host=host, path_in_container=inside or host, cgroup_permissions=access or "rwm")


def _device_requests(options: RunOptions) -> tuple[docker.DeviceRequest, ...] | None:
    named = tuple(text for text in options.get("devices", ()) if split(text))
    found = [docker.DeviceRequest(driver="cdi", device_ids=named)] if named else []
    if gpus := options.get("gpus"):
        count = -1 if gpus == "all" else int(gpus)
        found.append(docker.DeviceRequest(count=count, capabilities=(("gpu",),)))
    return tuple(found) or None


def words(command: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return a command's words; one string is split as a shell would."""
    if isinstance(command, str):
        import shlex

        return tuple(shlex.split(command))
    return tuple(command) if command is not None else None


def bindings(ports: Sequence[str] | None) -> dict[str, tuple[docker.PortBinding, ...] | None] | None:
    """Return where each port of the container is published."""
    found: dict[str, tuple[docker.PortBinding, ...] | None] = {}
    for port in (parse_port(text) for text in _strings(ports) or ()):
        single = port.container_first == port.container_last
        for number in range(port.container_first, port.container_last + 1):
            host = "" if not port.host_first else str(port.host_first + number - port.container_first)
            if single and port.host_first != port.host_last:  # whichever of them is free
                host = f"{port.host_first}-{port.host_last}"
            binding = docker.PortBinding(host_ip=port.host_ip, host_port=host)
            key = f"{number}/{port.protocol}"
            found[key] = (*(found.get(key) or ()), binding)
    return found or None


def _strings(values: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(values, str):
        raise InvalidInput(f"can't use {values!r}: a list of strings is wanted, not a string")
    return tuple(values) if values else None


def environment(values: Mapping[str, str] | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return variables as "NAME=value"."""
    if values is None or isinstance(values, str):
        return _strings(values)
    if hasattr(values, "items"):
        return tuple(f"{name}={value}" for name, value in values.items()) or None
    return tuple(values) or None


def _bytes(size: int | str) -> int:
    return -1 if size == "-1" else parse_bytes(size) if isinstance(size, str) else size


def _ulimits(limits: Mapping[str, int | tuple[int, int]]) -> tuple[docker.Ulimit, ...] | None:
    result = []
    for name, limit in limits.items():
        soft, hard = limit if isinstance(limit, tuple) else (limit, limit)
        result.append(docker.Ulimit(name=name, soft=soft, hard=hard))
    return tuple(result) or None
