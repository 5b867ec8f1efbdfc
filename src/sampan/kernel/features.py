"""What this kernel and this process can do, found out by trying and asking, never by user id or version."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import SyscallError
from sampan.kernel import cgroupfs, credentials, mount

if TYPE_CHECKING:
    from collections.abc import Callable


class Features(NamedTuple):
    """The facts of `spec.host.Host`, by the same names."""

    architecture: str
    kernel: tuple[int, int]
    cgroup_mode: str  # "v1", "v2" or "none"
    cgroup_mounts: tuple[tuple[str, str], ...]
    cgroup_controllers: frozenset[str]
    cgroup_delegates: bool
    cgroup_own: tuple[tuple[str, str], ...]
    namespaces: frozenset[str]
    last_capability: int
    capabilities: frozenset[str]
    seccomp: bool
    apparmor: bool
    selinux: bool
    resctrl: str
    mqueue: bool
    overlay_lower_plus: bool
    overlay_off: tuple[str, ...]
    new_mount_api: bool
    mount_setattr: bool
    rlimits: tuple[tuple[str, int], ...]
    may_raise_rlimits: bool
    swap_accounting: bool
    rootful: bool


def probe() -> Features:
    """Ask the kernel for everything; a few milliseconds."""
    uname = os.uname()
    mounts = mount.mountinfo()
    own = cgroupfs.of_process()
    mode, hierarchies = cgroup_mode(cgroupfs.cgroup_mounts(mounts))
    capabilities = credentials.capget()
    return Features(
        architecture=uname.machine,
        kernel=kernel_version(uname.release),
        cgroup_mode=mode,
        cgroup_mounts=tuple((m.controller, m.mount_point) for m in hierarchies),
        cgroup_controllers=_controllers(mode, hierarchies),
        cgroup_delegates=mode == "v2" and any("nsdelegate" in m.super_options for m in mounts if m.fstype == "cgroup2"),
        cgroup_own=tuple((m.controller, own.get(m.controller, "/")) for m in hierarchies),
        namespaces=frozenset(n for n in os.listdir("/proc/self/ns") if not n.endswith("_for_children")),
        last_capability=int(_read("/proc/sys/kernel/cap_last_cap") or 40),
        capabilities=capabilities.permitted,
        seccomp="errno" in _read("/proc/sys/kernel/seccomp/actions_avail"),
        apparmor=_read("/sys/module/apparmor/parameters/enabled").startswith("Y"),
        selinux=any(m.fstype == "selinuxfs" for m in mounts),
        resctrl=next((m.mount_point for m in mounts if m.fstype == "resctrl"), ""),
        mqueue="mqueue" in _read("/proc/filesystems").split(),
        overlay_lower_plus=_overlay_lower_plus(),
        overlay_off=_overlay_off(),
        new_mount_api=_is_there(lambda: mount.fsopen("")),
        mount_setattr=_is_there(lambda: mount.mount_setattr(-1, "")),
        rlimits=_rlimits(),
        may_raise_rlimits="CAP_SYS_RESOURCE" in capabilities.effective,
        swap_accounting=_swap_accounting(mode, hierarchies, own),
        rootful="CAP_SYS_ADMIN" in capabilities.effective and _in_first_user_namespace(),
    )


def kernel_version(release: str) -> tuple[int, int]:
    """Take the first two numbers of uname's release: "6.18.44-foo" → (6, 18), "7.0-rc1" → (7, 0)."""
    major, _, rest = release.partition(".")
    digits = "".join(c if c.isdigit() else " " for c in rest).split(" ", 1)[0]
    return int(major), int(digits or 0)


def cgroup_mode(mounts: list[cgroupfs.CgroupMount]) -> tuple[str, list[cgroupfs.CgroupMount]]:
    """Tell the mode, and which mounts count: with any v1 controller mounted, those of v1."""
    v1 = [m for m in mounts if m.controller]
    if any(not m.controller.startswith("name=") for m in v1):
        return "v1", v1
    v2 = [m for m in mounts if not m.controller]
    return ("v2", v2) if v2 else ("none", [])


def _controllers(mode: str, mounts: list[cgroupfs.CgroupMount]) -> frozenset[str]:
    if mode == "v2":
        if not os.access(mounts[0].mount_point, os.W_OK):
            return frozenset()
        return frozenset(_read(f"{mounts[0].mount_point}/cgroup.controllers").split())
    return frozenset(
        m.controller for m in mounts if not m.controller.startswith("name=") and os.access(m.mount_point, os.W_OK)
    )


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read())
    except OSError:
        return ""


def _is_there(call: Callable[[], object]) -> bool:
    """Make a call that can't succeed: ENOSYS says that it isn't there, EPERM that it is of no use."""
    try:
        call()
    except OSError as e:
        return e.errno not in {errno.ENOSYS, errno.EPERM}
    return True


def _overlay_lower_plus() -> bool:
    """Try it: Linux 6.5 has the word in part, 6.8 in the form that takes one layer a time.

    Before 6.5 overlayfs takes any word at this point, and refuses it when it is mounted.
    """
    try:
        fd = mount.fsopen("overlay")
    except OSError:
        return False
    try:
        mount.fsconfig_string(fd, "lowerdir+", "/")
        mount.fsconfig_string(fd, "no-such-word", "/")
    except SyscallError as e:
        return bool(e.filename == "no-such-word=/")
    finally:
        os.close(fd)
    return False


def _overlay_off() -> tuple[str, ...]:
    """Return the options that turn off what this kernel's overlayfs does unless told otherwise.

    With any of these a directory that was written to says only under its mount what is in it;
    Documentation/filesystems/overlayfs.rst, "redirect_dir" and "Metadata only copy up".
    """
    parameters = "/sys/module/overlay/parameters"
    names = ("index", "metacopy", "redirect_dir")
    return tuple(f"{name}=off" for name in names if _read(f"{parameters}/{name}").strip() != "N")


def _rlimits() -> tuple[tuple[str, int], ...]:
    import resource

    names = sorted(n for n in dir(resource) if n.startswith("RLIMIT_") and n != "RLIMIT_OFILE")
    return tuple((n, resource.getrlimit(getattr(resource, n))[1]) for n in names)


def _swap_accounting(mode: str, mounts: list[cgroupfs.CgroupMount], own: dict[str, str]) -> bool:
    """See whether swap can be limited.

    On v2 only groups in which the memory controller is enabled have the file, the root never: where no group from
    this process's own upwards is such a one, believe it.
    """
    if mode == "v2":
        path = own.get("", "/")
        while path not in {"", "/"}:
            if os.path.exists(f"{mounts[0].mount_point}{path}/memory.current"):
                return os.path.exists(f"{mounts[0].mount_point}{path}/memory.swap.max")
            path = os.path.dirname(path)
        return True
    return any(
        os.path.exists(f"{m.mount_point}/memory.memsw.limit_in_bytes") for m in mounts if m.controller == "memory"
    )


def _in_first_user_namespace() -> bool:
    """Only there are all ids mapped onto themselves; user_namespaces(7)."""
    return _read("/proc/self/uid_map").split() == ["0", "0", "4294967295"]
