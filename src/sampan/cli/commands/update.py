"""`sampan update`: change a container's limits, restart policy, health check and ports, also while it runs."""

from __future__ import annotations

from sampan.cli.body_rare import HEALTH, restart_policy
from sampan.cli.command import Call, Command
from sampan.cli.each import container, each
from sampan.cli.failure import Failure, not_of_run
from sampan.cli.flags import Flag
from sampan.cli.options import HEALTH_FLAGS
from sampan.cli.output import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.flags import Options

_PORTS = ("publish-add", "publish-rm")


def update(call: Call) -> int:
    """Change each container."""
    options = call.options
    if not options.given:
        raise Failure("you must provide one or more flags when using this command")
    ports, limits, health = _ports(options), _limits(options), _health(options)

    def change(name: str) -> None:
        if limits:
            answer = call.session.ask("POST", container(name, "/update"), limits).json()
            for warning in answer.get("Warnings") or ():
                warn(f"WARNING: {warning}")
        if health:
            call.session.ask("POST", "/sampan" + container(name, "/healthcheck"), health).read()
        if ports:
            call.session.ask("POST", "/sampan" + container(name, "/ports"), ports).read()

    return each(call, change)


def _ports(options: Options) -> dict[str, Any]:
    if not any(name in options for name in _PORTS):
        return {}
    from sampan.cli.body_ports import bindings_of, removal_of

    return {
        "Add": bindings_of(options["publish-add"]),
        "Remove": [removal_of(text) for text in options["publish-rm"]],
    }


def _health(options: Options) -> dict[str, Any]:
    if not any(name in options for name in HEALTH):
        return {}
    from sampan.cli.body_health import annotated, checked

    try:
        return {"Healthcheck": checked(options) or None, "Annotations": annotated(options)}
    except Failure as e:
        raise not_of_run(e) from None


def limits_of(options: Options) -> dict[str, Any]:
    """Return the limits that were given, as the API has them."""
    return {flag.api: options[flag.name] for flag in LIMITS if flag.name in options}


def _limits(options: Options) -> dict[str, Any]:
    body = limits_of(options)
    if "restart" in options:
        try:
            body["RestartPolicy"] = restart_policy(options["restart"])
        except Failure as e:
            raise not_of_run(e) from None
    return body


LIMITS = (
    Flag("blkio-weight", "int", "Weight of block I/O, 10 to 1000", api="BlkioWeight"),
    Flag("cpu-period", "int", "The period of --cpu-quota in microseconds", api="CpuPeriod"),
    Flag("cpu-quota", "int", "Microseconds of CPU time in each period", api="CpuQuota"),
    Flag("cpu-rt-period", "int", "Real-time period in microseconds", api="CpuRealtimePeriod"),
    Flag("cpu-rt-runtime", "int", "Real-time runtime in it", api="CpuRealtimeRuntime"),
    Flag("cpu-shares", "int", "Relative weight of CPU time", short="c", api="CpuShares"),
    Flag("cpus", "cpus", "Number of CPUs: 1.5", api="NanoCpus"),
    Flag("cpuset-cpus", "string", "CPUs that it may use: 0-3, 0,1", api="CpusetCpus"),
    Flag("cpuset-mems", "string", "Memory nodes that it may use", api="CpusetMems"),
    Flag("memory", "bytes", "Memory limit: 512m, 2g", short="m", api="Memory"),
    Flag("memory-reservation", "bytes", "Soft limit of memory", api="MemoryReservation"),
    Flag("memory-swap", "swap", "Limit of memory and swap together; -1: unlimited", api="MemorySwap"),
    Flag("pids-limit", "int", "Number of processes; -1: unlimited", api="PidsLimit"),
    Flag("blkio-weight-device", "weight", "Weight for one device: DEVICE:WEIGHT", api="BlkioWeightDevice"),
    Flag("device-read-bps", "rate-in-bytes", "Limit the bytes read a second: DEVICE:10mb", api="BlkioDeviceReadBps"),
    Flag("device-read-iops", "rate", "Limit the reads a second: DEVICE:1000", api="BlkioDeviceReadIOps"),
    Flag("device-write-bps", "rate-in-bytes", "Limit the bytes written a second", api="BlkioDeviceWriteBps"),
    Flag("device-write-iops", "rate", "Limit the writes a second", api="BlkioDeviceWriteIOps"),
)

COMMAND = Command(
    "update [OPTIONS] CONTAINER [CONTAINER...]",
    "Change limits, restart policy, health check and published ports of one or more containers, running or not",
    update,
    flags=(
        Flag("publish-add", "list", "Publish one more port: [[ADDRESS:][HOST]:]PORT[/PROTOCOL]; ranges too"),
        Flag("publish-rm", "list", "Publish it no longer: [ADDRESS:]HOST[/PROTOCOL]; ranges too"),
        *LIMITS,
        *HEALTH_FLAGS,
        Flag("restart", "string", "Restart policy: no, always, unless-stopped, on-failure[:N]"),
    ),
    arguments=(1, None),
)
