"""What this machine's kernel can do, probed once: the second argument of every `plan`."""

from __future__ import annotations

import enum

import msgspec


class CgroupMode(enum.StrEnum):
    """How the host mounts its control groups."""

    V1 = "v1"  # one mount per controller; an empty v2 mount may stand beside (hybrid)
    V2 = "v2"  # one mount with every controller
    NONE = "none"


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """The frozen result of probing the kernel. Sets are of the kernel's own words."""

    architecture: str  # uname's machine: x86_64, aarch64, …
    kernel: tuple[int, int]  # 6.18 → (6, 18)
    cgroup_mode: CgroupMode
    cgroup_mounts: tuple[tuple[str, str], ...] = ()  # v1: (controller or name=…, mount point); v2: ("", mount point)
    cgroup_controllers: frozenset[str] = frozenset()  # those that can be used for containers
    cgroup_delegates: bool = (
        False  # v2: mounted with nsdelegate, so who may write to its own group can't lift its limits
    )
    cgroup_own: tuple[tuple[str, str], ...] = ()  # (controller, path of this process), v2: ("", path)
    namespaces: frozenset[str] = frozenset()  # cgroup ipc mnt net pid time user uts
    last_capability: int = 40
    capabilities: frozenset[str] = frozenset()  # CAP_… that this process may give (its permitted set)
    seccomp: bool = True
    apparmor: bool = False
    selinux: bool = False
    resctrl: str = ""  # where the resctrl filesystem is mounted
    mqueue: bool = True  # the filesystem types that may be missing
    overlay_lower_plus: bool = True  # fsconfig "lowerdir+", Linux 6.8
    overlay_off: tuple[str, ...] = ()  # options against what overlayfs would do by itself: metacopy=off
    new_mount_api: bool = True  # fsopen, fsmount, move_mount: 5.2
    mount_setattr: bool = True  # 5.12
    rlimits: tuple[tuple[str, int], ...] = ()  # (RLIMIT_…, this process's hard limit)
    may_raise_rlimits: bool = False  # CAP_SYS_RESOURCE
    swap_accounting: bool = True
    rootful: bool = True  # mounts, namespaces and cgroups may be made here without a user namespace
