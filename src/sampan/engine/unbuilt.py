"""What Docker has and this version hasn't: each is refused when it is asked for, nothing is accepted and ignored.

Pure. `HONOURED` names every field of a create body that something reads; a test holds that it and `REFUSED` together
are all there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    import msgspec

    from sampan.spec.docker import ContainerCreate

HONOURED = frozenset({
    # HostConfig
    "blkio_device_read_bps", "blkio_device_read_iops", "blkio_device_write_bps", "blkio_device_write_iops",
    "blkio_weight", "blkio_weight_device", "cpu_realtime_period", "cpu_realtime_runtime",
    "annotations", "auto_remove", "binds", "cap_add", "cap_drop", "cgroup_parent", "cgroupns_mode",
    "console_size", "container_id_file",
    "cpu_period", "cpu_quota", "cpu_shares", "cpuset_cpus", "cpuset_mems", "device_cgroup_rules",
    "device_requests", "devices", "dns",
    "dns_options", "dns_search", "extra_hosts", "group_add", "init", "ipc_mode", "isolation", "links", "log_config",
    "masked_paths", "memory", "memory_reservation", "memory_swap", "memory_swappiness", "mounts", "nano_cpus",
    "network_mode", "oom_kill_disable", "oom_score_adj", "pid_mode", "pids_limit", "port_bindings", "privileged",
    "publish_all_ports", "readonly_paths", "readonly_rootfs", "restart_policy", "runtime", "security_opt", "shm_size",
    "storage_opt", "sysctls", "tmpfs", "ulimits", "userns_mode", "uts_mode", "volume_driver", "volumes_from",
    # the body itself
    "args_escaped", "attach_stderr", "attach_stdin", "attach_stdout", "cmd", "domainname", "entrypoint", "env",
    "exposed_ports", "healthcheck", "host_config", "hostname", "image", "labels", "mac_address", "network_disabled",
    "networking_config", "on_build", "open_stdin", "shell", "stdin_once", "stop_signal", "stop_timeout", "tty", "user",
    "volumes", "working_dir",
})  # fmt: skip

_WINDOWS = "it means something on Windows only"

REFUSED: dict[str, tuple[str, str]] = {
    "cgroup": ("", "leave it out"),
    "cpu_count": ("--cpu-count", _WINDOWS),
    "cpu_percent": ("--cpu-percent", _WINDOWS),
    "io_maximum_bandwidth": ("--io-maxbandwidth", _WINDOWS),
    "io_maximum_iops": ("--io-maxiops", _WINDOWS),
    "kernel_memory": ("--kernel-memory", "the kernel has given this limit up; use --memory"),
    "kernel_memory_tcp": ("", "use --memory"),
}
"""Field → the flag that sets it, and what to do instead."""


def refuse_unbuilt(body: ContainerCreate) -> None:
    """Raise Unsupported for the first thing asked for that this version would not do."""
    refuse_fields(body, "")
    refuse_fields(body.host_config, "HostConfig.")
    host_config = body.host_config
    if host_config.runtime not in ("", "sampan"):
        raise InvalidInput(f"unknown or invalid runtime name: {host_config.runtime}", "leave --runtime out")
    if host_config.isolation not in ("", "default"):
        raise InvalidInput(f"invalid isolation: \"{host_config.isolation}\" - linux only supports 'default'")


def refuse_fields(struct: msgspec.Struct, prefix: str) -> None:
    """Raise Unsupported for the first field that is set and does nothing."""
    for field, (flag, hint) in REFUSED.items():
        if getattr(struct, field, None):
            name = "".join(word.capitalize() for word in field.split("_"))
            raise _unsupported(prefix + name, flag, hint)


def _unsupported(what: str, flag: str, hint: str) -> Unsupported:
    return Unsupported(f"unsupported: {what} ({flag})" if flag else f"unsupported: {what}", hint)
