"""`sampan info`: the engine, its store, this machine."""

from __future__ import annotations

from sampan import __version__
from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import say, warn
from sampan.cli.table import human_size
from sampan.cli.templated import parsed, show_one
from sampan.units import format_bytes_binary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Info = dict[str, Any]


def info(call: Call) -> int:
    """Print what the engine says of itself."""
    template = parsed(call.options["format"]) if call.options["format"] else None
    document: Info = call.session.ask("GET", "/info").json()
    if template:
        client = {"Version": __version__, "Context": "default", "Debug": False, "Plugins": [], "Warnings": None}
        show_one({**document, "ClientInfo": client}, template)
        return 0
    lines = ["Client:", f" Version:    {__version__}", " Context:    default", " Debug Mode: false", "", "Server:"]
    for part in (_containers, _drivers, _security, _machine, _registries, _own):
        lines += part(document)
    say("\n".join(lines) + "\n")
    for warning in document.get("Warnings") or ():
        warn(warning)
    return 0


def _containers(info: Info) -> list[str]:
    return [
        f" Containers: {info.get('Containers', 0)}",
        f"  Running: {info.get('ContainersRunning', 0)}",
        f"  Paused: {info.get('ContainersPaused', 0)}",
        f"  Stopped: {info.get('ContainersStopped', 0)}",
        f" Images: {info.get('Images', 0)}",
        f" Server Version: {info.get('ServerVersion', '')}",
    ]


def _drivers(info: Info) -> list[str]:
    lines = [f" Storage Driver: {info.get('Driver', '')}"]
    lines += [f"  {name}: {value}" for name, value in info.get("DriverStatus") or ()]
    for label, key in (
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    ):
        if info.get(key):
            lines.append(f" {label}: {info[key]}")
    plugins = info.get("Plugins") or {}
    if any(plugins.values()):
        lines.append(" Plugins:")
        lines += [f"  {kind}: {' '.join(plugins[kind])}" for kind in ("Volume", "Network", "Log") if plugins.get(kind)]
    if directories := info.get("CDISpecDirs"):
        lines += [" CDI spec directories:", *(f"  {directory}" for directory in directories)]
    if devices := info.get("DiscoveredDevices"):
        lines += [" Discovered Devices:", *(f"  {device['Source']}: {device['ID']}" for device in devices)]
    swarm = (info.get("Swarm") or {}).get("LocalNodeState")
    lines += [f" Swarm: {swarm}"] if swarm else []
    runtimes = info.get("Runtimes") or {}
    lines += [f" Runtimes: {' '.join(sorted(runtimes))}"] if runtimes else []
    for label, key in (("Default Runtime", "DefaultRuntime"), ("Init Binary", "InitBinary")):
        if info.get(key):
            lines.append(f" {label}: {info[key]}")
    return lines


def _security(info: Info) -> list[str]:
    lines = []
    for option in info.get("SecurityOptions") or ():
        fields = dict(field.partition("=")[::2] for field in option.split(","))
        lines.append(f"  {fields.pop('name', option)}")
        lines += [f"   {key.capitalize()}: {value}" for key, value in fields.items()]
    return [" Security Options:", *lines] if lines else []


def _machine(info: Info) -> list[str]:
    rows = (
        ("Kernel Version", info.get("KernelVersion")),
        ("Operating System", info.get("OperatingSystem")),
        ("OSType", info.get("OSType")),
        ("Architecture", info.get("Architecture")),
        ("CPUs", info.get("NCPU")),
        ("Total Memory", format_bytes_binary(info.get("MemTotal") or 0)),
        ("Name", info.get("Name")),
        ("ID", info.get("ID")),
        ("Docker Root Dir", info.get("DockerRootDir")),
        ("Debug Mode", "true" if info.get("Debug") else "false"),
    )
    return [f" {label}: {value}" for label, value in rows if value is not None]


def _registries(info: Info) -> list[str]:
    config = info.get("RegistryConfig") or {}
    indexes = (config.get("IndexConfigs") or {}).values()
    insecure = [str(index["Name"]) for index in indexes if not index.get("Secure")]
    insecure += config.get("InsecureRegistryCIDRs") or ()
    lines = [" Insecure Registries:", *(f"  {name}" for name in insecure)] if insecure else []
    mirrors = config.get("Mirrors") or ()
    return lines + ([" Registry Mirrors:", *(f"  {mirror}" for mirror in mirrors)] if mirrors else [])


def _own(info: Info) -> list[str]:
    """What sampan's engine says and Docker's does not."""
    names = ("Root", "Instance", "ServerPid", "KeeperPid", "Socket")
    lines = [f" {name}: {info[name]}" for name in names if info.get(name)]
    if info.get("StoreSize"):
        lines.append(f" Store Size: {human_size(info['StoreSize'])}")
    return lines


COMMAND = Command(
    "info [OPTIONS]",
    "Display system-wide information",
    info,
    flags=(Flag("format", "string", "json or a Go template", short="f"),),
)
