"""`system doctor`: whether this host has what containers need, what a lack costs, and the fix."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import SampanError
from sampan.kernel.libseccomp import LIBRARY
from sampan.network import legacy
from sampan.spec.docker.doctor import Finding
from sampan.spec.host import CgroupMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.spec.host import Host

_CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "SETPCAP",
                 "SETFCAP", "MKNOD", "KILL", "SYS_CHROOT")  # fmt: skip
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
_OLDEST = (5, 6)
_LITTLE_BYTES, _LITTLE_SHARE = 1 << 30, 0.05
_LITTLE_FILES = 1024


class Facts(NamedTuple):
    """What the checks look at, besides the probed host."""

    filesystems: frozenset[str]
    user_namespaces: int
    root: str
    free_bytes: int
    size_bytes: int
    free_inodes: int
    inodes: int
    filesystem: str
    nftables: str  # "" where it works, else what was said
    legacy_iptables: bool
    forwarding_refused: tuple[str, ...]  # chains of others that drop what networks forward
    open_files: int
    libseccomp: bool


def examine(core: Core) -> tuple[Finding, ...]:
    """Look at this host now."""
    return tuple(findings(core.host, _facts(core)))


def findings(host: Host, facts: Facts) -> Iterator[Finding]:
    """Return every check with its outcome, the basic ones first. Pure."""
    yield _kernel(host)
    yield _rights(host)
    yield _namespaces(host)
    yield _user_namespaces(facts)
    yield _overlay(facts)
    yield from _cgroups(host)
    yield from _confinement(host, facts)
    yield _firewall(facts)
    yield from _space(facts)
    yield _files(facts)


def _ok(name: str, said: str) -> Finding:
    return Finding(check=name, outcome="ok", said=said)


def _warned(name: str, said: str, fix: str) -> Finding:
    return Finding(check=name, outcome="warning", said=said, fix=fix)


def _failed(name: str, said: str, fix: str) -> Finding:
    return Finding(check=name, outcome="failed", said=said, fix=fix)


def _kernel(host: Host) -> Finding:
    shown = ".".join(map(str, host.kernel))
    if host.kernel < _OLDEST or not host.new_mount_api:
        return _failed("kernel", f"Linux {shown} lacks openat2(2) or the mount API", "run Linux 5.6 or newer")
    if not host.mount_setattr:
        return _warned("kernel", f"Linux {shown}: no mount_setattr(2), so binds are not read-only all the way down",
                       "run Linux 5.12 or newer")  # fmt: skip
    return _ok("kernel", f"Linux {shown}, {host.architecture}")


def _rights(host: Host) -> Finding:
    missing = [name for name in _CAPABILITIES if f"CAP_{name}" not in host.capabilities]
    if missing or not host.rootful:
        said = f"missing: CAP_{', CAP_'.join(missing)}" if missing else "not root of this machine"
        return _failed("rights", said, "run sampan as root: sudo sampan …")
    return _ok("rights", "all capabilities that a container's making takes")


def _namespaces(host: Host) -> Finding:
    missing = [name for name in _NAMESPACES if name not in host.namespaces]
    if missing:
        options = ", ".join(f"CONFIG_{name.upper()}_NS" for name in missing)
        return _failed("namespaces", f"this kernel has no {', '.join(missing)}", f"run a kernel with {options}")
    return _ok("namespaces", ", ".join(sorted(host.namespaces)))


def _user_namespaces(facts: Facts) -> Finding:
    if not facts.user_namespaces:
        return _warned("user namespaces", "none may be made: no container with mapped ids",
                       "sysctl -w user.max_user_namespaces=15000")  # fmt: skip
    return _ok("user namespaces", f"up to {facts.user_namespaces}")


def _overlay(facts: Facts) -> Finding:
    if "overlay" not in facts.filesystems:
        return _failed(
            "overlay", "this kernel knows no overlayfs", "modprobe overlay, or a kernel with CONFIG_OVERLAY_FS"
        )
    return _ok("overlay", f"images and containers are on {facts.filesystem}, at {facts.root}")


def _cgroups(host: Host) -> Iterator[Finding]:
    if host.cgroup_mode is CgroupMode.NONE:
        yield _failed("control groups", "none are mounted: nothing can be limited, paused or surely ended",
                      "mount -t cgroup2 none /sys/fs/cgroup")  # fmt: skip
        return
    missing = [name for name in _CONTROLLERS if name not in host.cgroup_controllers]
    version = "v2" if host.cgroup_mode is CgroupMode.V2 else "v1"
    if missing:
        fix = "boot with cgroup_enable=memory" if "memory" in missing else "enable them in cgroup.subtree_control"
        yield _warned("control groups", f"{version} without {', '.join(missing)}: those limits are refused", fix)
    else:
        yield _ok("control groups", f"{version} with {', '.join(sorted(host.cgroup_controllers))}")
    if not host.swap_accounting:
        yield _warned("swap limit", "swap is not counted: --memory-swap is left out", "boot with swapaccount=1")


def _confinement(host: Host, facts: Facts) -> Iterator[Finding]:
    if not host.seccomp:
        yield _warned("seccomp", "this kernel filters no system calls", "run a kernel with CONFIG_SECCOMP_FILTER")
    elif not facts.libseccomp:
        yield _warned(
            "seccomp", "the default profile works; one of your own needs libseccomp", "apt install libseccomp2"
        )
    else:
        yield _ok("seccomp", "the default profile, and others by libseccomp")
    modules = [name for name, there in (("AppArmor", host.apparmor), ("SELinux", host.selinux)) if there]
    yield _ok("security modules", ", ".join(modules) or "none on this kernel; capabilities and seccomp confine")


def _firewall(facts: Facts) -> Finding:
    if facts.nftables:
        return _failed("firewall", f"nftables does not answer ({facts.nftables}): no bridge, no published ports",
                       "modprobe nf_tables nft_nat; --network host works without")  # fmt: skip
    if facts.forwarding_refused:
        chains = ", ".join(facts.forwarding_refused)
        return _warned("firewall", f"others drop what they don't know: {chains}",
                       "`sampan network audit` tells what reaches your containers")  # fmt: skip
    if facts.legacy_iptables:
        return _warned(
            "firewall", "legacy iptables has rules beside nftables", "`sampan network audit` tells what they do"
        )
    return _ok("firewall", "nftables")


def _space(facts: Facts) -> Iterator[Finding]:
    free = f"{facts.free_bytes / 1e9:.1f} GB free of {facts.size_bytes / 1e9:.1f} GB at {facts.root}"
    if facts.free_bytes < min(_LITTLE_BYTES, facts.size_bytes * _LITTLE_SHARE):
        yield _warned("disk", free, "`sampan system df` tells what can go, `sampan system prune` removes it")
    else:
        yield _ok("disk", free)
    if facts.inodes and facts.free_inodes < max(_LITTLE_FILES, facts.inodes * _LITTLE_SHARE):
        yield _warned("inodes", f"{facts.free_inodes} of {facts.inodes} are free: small files fill the disk first",
                      "`sampan system prune`, or another filesystem: SAMPAN_ROOT")  # fmt: skip


def _files(facts: Facts) -> Finding:
    if facts.open_files < _LITTLE_FILES:
        return _warned(
            "open files", f"{facts.open_files} at most for each process", "ulimit -n 65536 before the engine starts"
        )
    return _ok("open files", f"up to {facts.open_files} for each process")


# ------------------------------------------------------------------------------------------------------- looking


def _facts(core: Core) -> Facts:
    root = core.dirs.root
    disk = os.statvfs(root)
    nftables, refused = _others(core)
    return Facts(
        filesystems=frozenset(line.split()[-1] for line in _read("/proc/filesystems").splitlines() if line),
        user_namespaces=int(_read("/proc/sys/user/max_user_namespaces") or 0),
        root=root,
        free_bytes=disk.f_bavail * disk.f_frsize,
        size_bytes=disk.f_blocks * disk.f_frsize,
        free_inodes=disk.f_favail,
        inodes=disk.f_files,
        filesystem=_filesystem_of(root),
        nftables=nftables,
        legacy_iptables=legacy.any_in_use(),
        forwarding_refused=refused,
        open_files=dict(core.host.rlimits).get("RLIMIT_NOFILE", 0),
        libseccomp=_has_libseccomp(),
    )


def _others(core: Core) -> tuple[str, tuple[str, ...]]:
    """Return why nftables does not work, and the chains of others that would drop what is forwarded."""
    try:
        found = core.firewall.facts().obstacles
    except (SampanError, OSError) as e:
        return getattr(e, "message", str(e)), ()
    return "", tuple(dict.fromkeys(one.chain for one in found if not one.accepted))


def _filesystem_of(path: str) -> str:
    """Return the type of the filesystem that a path is on: proc(5), mountinfo."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in _read("/proc/self/mountinfo").splitlines():
        fields = line.split()
        if fields[2] == wanted:
            return fields[fields.index("-") + 1]
    return "an unknown filesystem"


def _has_libseccomp() -> bool:
    import ctypes

    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""
