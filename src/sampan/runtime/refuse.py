"""What a configuration may ask for and a plan doesn't perform yet: refused by name, never silently dropped. Pure."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, Unsupported
from sampan.runtime.cgroups import device_rules
from sampan.spec.host import CgroupMode, Host
from sampan.spec.runtime import KERNEL_NAMES, DeviceRule, Resources

if TYPE_CHECKING:
    from sampan.spec.runtime import Linux, Process, Seccomp, Spec


def refuse(spec: Spec, host: Host) -> None:
    """Raise Unsupported or InvalidInput where the plan of `spec` would not be all that it asks for."""
    if not host.rootful:
        raise Unsupported("can't make a container: this user may not make mounts and namespaces here", "run it as root")
    if not (host.new_mount_api and host.mount_setattr):
        raise Unsupported("can't make a container: the kernel is older than Linux 5.12", "use a newer kernel")
    if spec.root is None or spec.process is None:
        raise InvalidInput("can't make a container: its configuration has no root or no process")
    if not spec.root.path.startswith("/"):
        raise InvalidInput(f"can't make a container: its root {spec.root.path!r} is no absolute path")
    _refuse_filter(spec.linux.seccomp)
    if spec.linux.intel_rdt and not host.resctrl:
        raise Unsupported("can't set Intel RDT: no resctrl filesystem is mounted", "mount it at /sys/fs/resctrl")
    if spec.linux.mount_label and not host.selinux:
        raise Unsupported("can't label mounts on this kernel: SELinux is not enabled")
    _refuse_unguarded_devices(spec.linux.resources, host)
    refuse_process(spec.process, host)
    _refuse_namespaces(spec, host)


def _refuse_filter(seccomp: Seccomp | None) -> None:
    """A process can't be without a listener for what it asks one about, nor say who is to be asked in vain."""
    if seccomp is None:
        return
    if seccomp.listener_metadata and not seccomp.listener_path:
        raise InvalidInput("can't set the seccomp filter: linux.seccomp.listenerMetadata is for a listenerPath")
    if seccomp.listener_path and not seccomp.listener_path.startswith("/"):
        raise InvalidInput("can't set the seccomp filter: linux.seccomp.listenerPath must be an absolute path")
    for n, rule in enumerate(seccomp.syscalls):
        if rule.errno_ret is not None and rule.action not in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"}:
            raise InvalidInput(
                f"can't set the seccomp filter: linux.seccomp.syscalls[{n}].errnoRet: {rule.action} returns none"
            )


def _refuse_unguarded_devices(resources: Resources | None, host: Host) -> None:
    """Without a device controller, whoever may make nodes (or finds one in the image) could open the host's disks."""
    guarded = host.cgroup_mode is CgroupMode.V2 or "devices" in dict(host.cgroup_mounts)
    if not guarded and device_rules(resources) != (DeviceRule(allow=True),):
        raise Unsupported(
            "can't keep the container from the host's devices: no control group for devices is mounted",
            "mount control groups at /sys/fs/cgroup (cgroups(7)), or allow all devices with --privileged",
        )


def refuse_process(process: Process, host: Host) -> None:
    """Raise Unsupported or InvalidInput for what a process asks for and a plan can't do."""
    if not process.args:
        raise InvalidInput("can't make a container: no command is specified")
    if not process.cwd.startswith("/"):
        raise InvalidInput(f"can't change to {process.cwd!r}: process.cwd must be an absolute path")
    for text in (*process.args, *process.env, process.cwd):
        if "\0" in text:
            raise InvalidInput(f"can't pass {text!r} to a program: it contains a null byte")
    _refuse_limits(process)
    asked = {
        "set an AppArmor profile on this kernel": process.apparmor_profile and not host.apparmor,
        "set an SELinux label on this kernel": process.selinux_label and not host.selinux,
    }
    for what, value in asked.items():
        if value:
            raise Unsupported(f"can't {what}")


_NUMBERS = 2**64  # -1 is unlimited, too


def _refuse_limits(process: Process) -> None:
    """The specification has two limits of one kind be an error; the kernel a soft one above the hard one."""
    seen: set[str] = set()
    for n, limit in enumerate(process.rlimits):
        what = f"can't limit the process: process.rlimits[{n}]"
        if not hasattr(resource, limit.type):
            raise InvalidInput(f"{what}.type: Linux has no {limit.type}")
        if limit.type in seen:
            raise InvalidInput(f"{what}.type: {limit.type} is there twice")
        if limit.soft % _NUMBERS > limit.hard % _NUMBERS:
            raise InvalidInput(f"{what}.soft: {limit.soft} is above the hard limit, {limit.hard}")
        seen.add(limit.type)


def _refuse_namespaces(spec: Spec, host: Host) -> None:
    types = [n.type for n in spec.linux.namespaces]
    for n in spec.linux.namespaces:
        if types.count(n.type) > 1:
            raise InvalidInput(f"can't make a container: linux.namespaces has two {n.type} namespaces")
        if KERNEL_NAMES.get(n.type, n.type) not in host.namespaces:
            raise Unsupported(f"can't make a {n.type} namespace: this kernel has none")
    if not any(n.type == "mount" and not n.path for n in spec.linux.namespaces):
        raise Unsupported(
            "can't make a container without a mount namespace of its own", "a changed root alone is no wall"
        )
    _refuse_mappings(spec.linux)
    if (spec.hostname or spec.domainname) and "uts" not in types:
        raise InvalidInput("can't set the host name: the container has no uts namespace of its own")
    if spec.linux.net_devices and "network" not in types:
        raise InvalidInput("can't move network devices: the container has no network namespace of its own")
    offsets = spec.linux.time_offsets
    if offsets and not any(n.type == "time" and not n.path for n in spec.linux.namespaces):
        raise InvalidInput("can't set the clocks: the container has no time namespace of its own")
    for clock in offsets.keys() - {"monotonic", "boottime"}:
        raise InvalidInput(f"can't set the clocks: linux.timeOffsets.{clock}: only monotonic and boottime have offsets")
    _refuse_sysctls(spec)


def _refuse_mappings(linux: Linux) -> None:
    user = [n for n in linux.namespaces if n.type == "user"]
    mapped = bool(linux.uid_mappings and linux.gid_mappings)
    if user and not user[0].path and not mapped:
        raise InvalidInput("can't map ids: a new user namespace needs linux.uidMappings and linux.gidMappings")
    if not user and (linux.uid_mappings or linux.gid_mappings):
        raise InvalidInput("can't map ids: linux.uidMappings and gidMappings are for a user namespace")


_BY_NAMESPACE = (
    ("net.", "network"),
    ("fs.mqueue.", "ipc"),
    ("kernel.msg", "ipc"),
    ("kernel.sem", "ipc"),
    ("kernel.shm", "ipc"),
)


def namespace_of(parameter: str) -> str:
    """Return the kind of namespace that a kernel parameter belongs to; empty: to none."""
    if parameter in {"kernel.hostname", "kernel.domainname"}:
        return "uts"
    return next((n for prefix, n in _BY_NAMESPACE if parameter.startswith(prefix)), "")


def _refuse_sysctls(spec: Spec) -> None:
    """A parameter that no namespace of the container has would be set for the whole machine."""
    own = {n.type for n in spec.linux.namespaces}
    for key in spec.linux.sysctl:
        name = key.replace("/", ".")
        if any(part in {"", ".", ".."} for part in key.replace(".", "/").split("/")):
            raise InvalidInput(f"can't set the kernel parameter {key!r}: it is no parameter's name")
        namespace = namespace_of(name)
        if namespace not in own:
            where = (
                f"the container has no {namespace} namespace of its own" if namespace else "it belongs to no namespace"
            )
            raise InvalidInput(f"can't set the kernel parameter {key}: {where}, so it would be set for the whole host")
