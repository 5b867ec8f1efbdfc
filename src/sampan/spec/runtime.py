"""The OCI runtime configuration for Linux (config.json), whole: what a container is to be.

Field by field opencontainers/runtime-spec 1.2, config.md and config-linux.md; nothing is renamed but to snake case.
Three conventions of ours are legal OCI and let a plan stay pure, because they name what only the container's own
files can answer:

* `process.user.username` may be an unresolved `name[:group]` or `uid[:gid]`, looked up in the container's /etc/passwd
  and /etc/group; the annotation `org.sampan.group-add` holds additional groups, comma-separated, likewise.
* The first mount may be `{"destination": "/", "type": "overlay", "options": ["lowerdir+=/top", "lowerdir+=/below",
  "upperdir=/u", "workdir=/w"]}`: it is mounted on `root.path`, in the container's mount namespace only.
* Without `linux.seccomp`, the annotation `org.sampan.seccomp` is `default`, `unconfined` (as is its absence) or the
  path of a compiled filter. `org.sampan.init` = `true` puts a reaper before the program.

With the annotation `org.sampan.systemd` = `true` the container has a group of its own in the cgroup v1 hierarchy
`name=systemd`, and may make others below it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from sampan.errors import InvalidInput
from sampan.spec.document import UNREADABLE

GROUP_ADD = "org.sampan.group-add"
SECCOMP = "org.sampan.seccomp"
INIT = "org.sampan.init"
SYSTEMD = "org.sampan.systemd"

Uint16 = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
Uint32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Uint64 = Annotated[int, msgspec.Meta(ge=0)]

NamespaceType = Literal["mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time"]

KERNEL_NAMES = {"mount": "mnt", "network": "net"}
"""Spellings of /proc/PID/ns, where they are others than the specification's."""


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Any object of the configuration."""


# ------------------------------------------------------------------------------------------------------- process


class User(Part, frozen=True, kw_only=True):
    """Whom the program runs as: numbers, or `username` to be looked up in the container."""

    uid: Uint32 = 0
    gid: Uint32 = 0
    umask: Uint32 | None = None
    additional_gids: tuple[Uint32, ...] = ()
    username: str = ""


class Box(Part, frozen=True, kw_only=True):
    """A terminal's size in characters."""

    height: Uint64
    width: Uint64


class Capabilities(Part, frozen=True, kw_only=True):
    """The five sets of capabilities(7), by their names: CAP_CHOWN, …"""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Part, frozen=True, kw_only=True):
    """One limit of getrlimit(2); 2**64 - 1 is unlimited."""

    type: Annotated[str, msgspec.Meta(pattern="^RLIMIT_[A-Z]+$")]
    soft: int
    hard: int


class IoPriority(Part, frozen=True, kw_only=True):
    """ioprio_set(2)."""

    class_: Literal["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"] = msgspec.field(name="class")
    priority: int = 0


SchedulerPolicy = Literal[
    "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"
]  # fmt: skip
SchedulerFlag = Literal[
    "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX",
]  # fmt: skip


class Scheduler(Part, frozen=True, kw_only=True):
    """sched_setattr(2)."""

    policy: SchedulerPolicy
    nice: int = 0
    priority: int = 0
    flags: tuple[SchedulerFlag, ...] = ()
    runtime: Uint64 = 0
    deadline: Uint64 = 0
    period: Uint64 = 0


class CpuAffinity(Part, frozen=True, kw_only=True):
    """The processors an exec starts on, and those it ends up on."""

    initial: str = ""
    final: str = ""


class Process(Part, frozen=True, kw_only=True):
    """The program: the container's first, or one of an exec."""

    cwd: str = "/"
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: User = User()
    terminal: bool = False
    console_size: Box | None = None
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    apparmor_profile: str = ""
    selinux_label: str = ""
    io_priority: IoPriority | None = None
    scheduler: Scheduler | None = None
    exec_cpu_affinity: CpuAffinity | None = msgspec.field(default=None, name="execCPUAffinity")


# -------------------------------------------------------------------------------------------- root, mounts, hooks


class Root(Part, frozen=True, kw_only=True):
    """The directory that becomes `/`."""

    path: str
    readonly: bool = False


class IdMapping(Part, frozen=True, kw_only=True):
    """One line of /proc/PID/uid_map, user_namespaces(7)."""

    container_id: Uint32 = msgspec.field(name="containerID")
    host_id: Uint32 = msgspec.field(name="hostID")
    size: Uint32


class Mount(Part, frozen=True, kw_only=True):
    """One mount, in the words of mount(8)."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


class Hook(Part, frozen=True, kw_only=True):
    """A program to run at a point of the container's life."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: Annotated[int, msgspec.Meta(ge=1)] | None = None  # seconds


class Hooks(Part, frozen=True, kw_only=True):
    """The six points."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


# ----------------------------------------------------------------------------------------------------- resources


class DeviceRule(Part, frozen=True, kw_only=True):
    """One rule of the device control group; None is any number; `type` is a (all), b or c; `access` of r, w, m."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Memory(Part, frozen=True, kw_only=True):
    """Bytes; -1 is unlimited. `swap` is memory and swap together, as cgroup v1 has it."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = msgspec.field(default=None, name="kernelTCP")
    swappiness: int | None = None
    disable_oom_killer: bool | None = msgspec.field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class Cpu(Part, frozen=True, kw_only=True):
    """Processor time; `quota` and `period` in microseconds."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class Pids(Part, frozen=True, kw_only=True):
    """The greatest number of processes and threads; 0 or less is unlimited."""

    limit: int


class WeightDevice(Part, frozen=True, kw_only=True):
    """A block device's share."""

    major: int
    minor: int
    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None


class ThrottleDevice(Part, frozen=True, kw_only=True):
    """A block device's upper limit, in bytes or operations a second."""

    major: int
    minor: int
    rate: Uint64


class BlockIo(Part, frozen=True, kw_only=True):
    """Shares and limits of block devices."""

    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(default=(), name="throttleReadIOPSDevice")
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(default=(), name="throttleWriteIOPSDevice")


class HugepageLimit(Part, frozen=True, kw_only=True):
    """Bytes of huge pages of one size."""

    page_size: Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]*[KMG]B$")]
    limit: Uint64


class InterfacePriority(Part, frozen=True, kw_only=True):
    """net_prio of one interface."""

    name: str
    priority: Uint32


class Network(Part, frozen=True, kw_only=True):
    """net_cls and net_prio."""

    class_id: Uint32 | None = msgspec.field(default=None, name="classID")
    priorities: tuple[InterfacePriority, ...] = ()


class Rdma(Part, frozen=True, kw_only=True):
    """Limits of one RDMA device."""

    hca_handles: Uint32 | None = None
    hca_objects: Uint32 | None = None


class Resources(Part, frozen=True, kw_only=True):
    """What the container's control groups allow."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIo | None = msgspec.field(default=None, name="blockIO")
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: dict[str, Rdma] = {}
    unified: dict[str, str] = {}  # cgroup v2: file → text


# --------------------------------------------------------------------------------------------------------- Linux


class Namespace(Part, frozen=True, kw_only=True):
    """A namespace to make, or with `path` to join."""

    type: NamespaceType
    path: str = ""


class Device(Part, frozen=True, kw_only=True):
    """A device node to make."""

    type: Literal["b", "c", "u", "p"]
    path: str
    major: int = 0
    minor: int = 0
    file_mode: Uint32 | None = None
    uid: Uint32 = 0
    gid: Uint32 = 0


class NetDevice(Part, frozen=True, kw_only=True):
    """A network device to move into the container."""

    name: str = ""


class TimeOffset(Part, frozen=True, kw_only=True):
    """The offset of one clock, time_namespaces(7)."""

    secs: int = 0
    nanosecs: Uint32 = 0


SeccompAction = Literal[
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
]  # fmt: skip
SeccompOperator = Literal[
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"
]  # fmt: skip
SeccompFlag = Literal[
    "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
]  # fmt: skip


class SyscallArg(Part, frozen=True, kw_only=True):
    """A condition on one argument."""

    index: Annotated[int, msgspec.Meta(ge=0, le=5)]
    value: Uint64
    op: SeccompOperator
    value_two: Uint64 = 0


class Syscall(Part, frozen=True, kw_only=True):
    """What is done when one of `names` is called."""

    names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    action: SeccompAction
    errno_ret: Uint32 | None = None
    args: tuple[SyscallArg, ...] = ()


class Seccomp(Part, frozen=True, kw_only=True):
    """A filter of system calls, in libseccomp's words."""

    default_action: SeccompAction
    default_errno_ret: Uint32 | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[SeccompFlag, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Syscall, ...] = ()


class IntelRdt(Part, frozen=True, kw_only=True):
    """Cache and memory bandwidth allocation, resctrl."""

    clos_id: str = msgspec.field(default="", name="closID")
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str = msgspec.field(default="", name="l3CacheSchema")
    mem_bw_schema: str = ""
    enable_monitoring: bool = False


MemoryPolicyMode = Literal[
    "", "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY", "MPOL_LOCAL",
]  # fmt: skip
MemoryPolicyFlag = Literal["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]


class MemoryPolicy(Part, frozen=True, kw_only=True):
    """set_mempolicy(2)."""

    mode: MemoryPolicyMode = ""
    nodes: str = ""
    flags: tuple[MemoryPolicyFlag, ...] = ()


class Personality(Part, frozen=True, kw_only=True):
    """personality(2)."""

    domain: Literal["", "LINUX", "LINUX32"] = ""
    flags: tuple[str, ...] = ()


Propagation = Literal[
    "", "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"
]  # fmt: skip


class Linux(Part, frozen=True, kw_only=True):
    """Namespaces, control groups, devices and restrictions."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    net_devices: dict[str, NetDevice] = {}
    cgroups_path: str = ""
    resources: Resources | None = None
    rootfs_propagation: Propagation = ""
    seccomp: Seccomp | None = None
    sysctl: dict[str, str] = {}
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    personality: Personality | None = None
    time_offsets: dict[str, TimeOffset] = {}


class Spec(Part, frozen=True, kw_only=True):
    """A container's whole configuration."""

    oci_version: str
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: dict[str, str] = {}
    linux: Linux = Linux()


# --------------------------------------------------------------------------------------------------------- state


class ContainerState(Part, frozen=True, kw_only=True):
    """A container's state (runtime.md, "State"): what `state` prints and what a hook reads from its standard input."""

    oci_version: str
    id: str
    status: str = ""  # creating, created, running or stopped
    pid: int = 0
    bundle: str = ""
    annotations: dict[str, str] = {}


# ------------------------------------------------------------------------------------------------------- reading


_decoder = msgspec.json.Decoder(Spec)


def read(document: bytes) -> Spec:
    """Read a config.json, or raise InvalidInput that names the field which is wrong; unknown fields are ignored.

    A null stands for a field that is absent, as programs in Go write it.
    """
    try:
        try:
            spec = _decoder.decode(document)
        except msgspec.ValidationError as e:
            if "null" not in str(e):
                raise
            spec = msgspec.convert(_without_nulls(msgspec.json.decode(document)), Spec)
    except UNREADABLE as e:
        raise InvalidInput(f"can't read config.json: {e}") from e
    if spec.oci_version.split(".")[0] != "1":
        raise InvalidInput(f"can't read config.json: its ociVersion is {spec.oci_version!r}, and must be 1.x")
    return spec


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value
