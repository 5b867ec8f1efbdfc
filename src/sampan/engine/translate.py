"""A create request becomes an OCI configuration: the one place where Docker's words end. Pure.

What a container joins of another (`--pid container:NAME`) is named by that one's id until the start, when `join` puts
its first process in.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from sampan.engine import mounts, resources, security, systemd
from sampan.engine.cgroup_places import place
from sampan.engine.merge import joined
from sampan.engine.user_modes import UserNamespace
from sampan.errors import InvalidInput, Unsupported
from sampan.spec import runtime
from sampan.spec.annotations import CHROOT_DIRS, RDT_CLASS, UMASK
from sampan.spec.defaults.paths import DEFAULT_PATH
from sampan.spec.host import CgroupMode, Host
from sampan.spec.image import Rootfs
from sampan.spec.runtime import BlockIo, IntelRdt, Linux, Mount, Namespace, Process, Root, Spec, User

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.spec.docker import ContainerCreate, ExecConfig, HostConfig

OCI_VERSION = "1.2.0"
FILES = ("resolv.conf", "hostname", "hosts")
"""Files in /etc of every container that are its own, kept in its directory."""

JOINED = "/proc/container:"
"""Before the id of a container that is joined, in the place of its first process's number: known at a start."""

_JOIN = re.compile(r"/proc/container:([0-9a-f]{64})/ns/([a-z]+)")
_TTY = 5
_WORD = "64 bytes at most, no space, and no slash"
_MODES = (
    ("pid", "pid_mode"),
    ("ipc", "ipc_mode"),
    ("network", "network_mode"),
    ("uts", "uts_mode"),
    ("cgroup", "cgroupns_mode"),
)
_NS_FILES = {"pid": "pid", "ipc": "ipc", "network": "net", "uts": "uts", "cgroup": "cgroup"}
_IPC_SYSCTLS = frozenset({
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
})  # fmt: skip


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is translated in: the host's facts, and what the engine has made or looked up for it."""

    id: str
    host: Host
    machine: resources.Machine
    block_io: BlockIo | None = None
    host_name: str  # the host's, or that of the container whose UTS namespace is joined
    rootfs: Rootfs
    mounts: tuple[mounts.Wanted, ...]  # with their directories
    own: str = ""  # its directory
    files: str  # the directory of FILES; of the joined container's where the network is joined
    cgroup_parent: str  # the instance's own
    seccomp: str  # "default", "unconfined" or the path of a compiled filter
    apparmor: str
    joins: Mapping[str, str]  # pid_mode, ipc_mode, network_mode, … → the id of the container that is joined
    devices: tuple[runtime.Device, ...] = ()  # of --device, or all of the host's for --privileged
    device_rules: tuple[runtime.DeviceRule, ...] = ()
    device_sources: Mapping[str, str] = {}  # where on the host they are, if they are to be bound: with `users`
    users: UserNamespace | None = None
    systemd: bool = False  # it is the first process
    own_groups: bool = False  # and arranges its control groups
    passwd_files: tuple[str, ...] = ()  # of /etc those that are its own, beside FILES


def translate(body: ContainerCreate, given: Surroundings, warnings: list[str]) -> Spec:
    """Return the configuration of a completed body. What can't be done in full is done less and told in `warnings`."""
    host_config = body.host_config
    rules = security.device_rules(host_config, given.device_rules)
    return Spec(
        oci_version=OCI_VERSION,
        process=_process(body, given, warnings),
        root=Root(path=given.rootfs.path, readonly=host_config.readonly_rootfs),
        hostname="" if _shares_uts(host_config) else hostname(body, given),
        domainname=domainname(body),
        mounts=_mounts(host_config, given),
        annotations=_annotations(host_config, given),
        linux=Linux(
            namespaces=_namespaces(host_config, given),
            devices=() if given.users else given.devices,
            cgroups_path=place(host_config.cgroup_parent, given.cgroup_parent, given.id),
            uid_mappings=given.users.uids if given.users else (),
            gid_mappings=given.users.gids if given.users else (),
            resources=resources.resources(host_config, given.host, given.machine, rules, warnings, given.block_io),
            sysctl=_sysctls(host_config, given),
            intel_rdt=_class_of_service(host_config, given.host),
            masked_paths=host_config.masked_paths or (),
            readonly_paths=host_config.readonly_paths or (),
        ),
    )


def hostname(body: ContainerCreate, given: Surroundings) -> str:
    """Return the host name: the given one, that of who shares its UTS or host's network namespace, the short id."""
    if body.hostname:
        if _shares_uts(body.host_config):
            raise InvalidInput("conflicting options: hostname and the UTS mode")
        if joined(body.host_config.network_mode):
            raise InvalidInput("conflicting options: hostname and the network mode")
        if "/" in body.hostname or not _one_word(body.hostname):
            raise InvalidInput(f"invalid hostname: {body.hostname[:80]!r}", _WORD)
        return body.hostname
    if _shares_uts(body.host_config) or body.host_config.network_mode == "host":
        return given.host_name
    return given.id[:12]


def domainname(body: ContainerCreate) -> str:
    """Return the domain, which /etc/hosts has behind the host name."""
    if body.domainname and _shares_uts(body.host_config):
        raise InvalidInput("conflicting options: domainname and the UTS mode")
    if body.domainname and not _one_word(body.domainname):
        raise InvalidInput(f"invalid domainname: {body.domainname[:80]!r}", _WORD)
    return body.domainname


def _one_word(name: str) -> bool:
    """Whether it is a name for uts_namespaces(7), and for a line of hosts(5)."""
    return len(os.fsencode(name)) <= 64 and name.isprintable() and not any(map(str.isspace, name))


def _shares_uts(host_config: HostConfig) -> bool:
    return host_config.uts_mode == "host" or bool(joined(host_config.uts_mode))


def _process(body: ContainerCreate, given: Surroundings, warnings: list[str]) -> Process:
    host_config = body.host_config
    options = security.parse(host_config.security_opt or ())
    size = host_config.console_size
    own = systemd.environment(given.id) if given.systemd else ()
    if not -1000 <= host_config.oom_score_adj <= 1000:
        raise InvalidInput(f"Invalid value {host_config.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    return Process(
        args=(*(body.entrypoint or ()), *(body.cmd or ())),
        cwd=body.working_dir or "/",
        env=environment((*own, *(body.env or ())), hostname(body, given), tty=body.tty),
        user=User(username=body.user or "0", umask=_umask(host_config)),
        terminal=body.tty,
        console_size=runtime.Box(height=size[0], width=size[1]) if body.tty and all(size) else None,
        capabilities=security.capabilities(host_config, given.host),
        rlimits=resources.rlimits(host_config, given.host, warnings),
        no_new_privileges=options.no_new_privileges,
        oom_score_adj=host_config.oom_score_adj or None,
        apparmor_profile=given.apparmor,
    )


def _umask(host_config: HostConfig) -> int | None:
    text = (host_config.annotations or {}).get(UMASK)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and not set(text) & {"8", "9"}):
        raise InvalidInput(f"invalid umask: {text[:80]!r}", "four octal digits at most: 0022")
    return int(text, 8)


def environment(given: tuple[str, ...], host_name: str, *, tty: bool) -> tuple[str, ...]:
    """Return the program's environment: PATH, HOSTNAME and TERM first; a bare name in `given` takes the variable away.

    HOME is added by the runtime, which knows the user's.
    """
    values = {"PATH": DEFAULT_PATH, "HOSTNAME": host_name}
    if tty:
        values["TERM"] = "xterm"
    for text in given:
        name, equals, value = text.partition("=")
        if equals:
            values[name] = value
        else:
            values.pop(name, None)
    return tuple(f"{name}={value}" for name, value in values.items())


def _namespaces(host_config: HostConfig, given: Surroundings) -> tuple[Namespace, ...]:
    """A namespace that is the host's is left out, as OCI has it."""
    found = [Namespace(type="mount")]
    for type, field in _MODES:
        mode: str = getattr(host_config, field)
        if field in given.joins:
            path = f"{JOINED}{given.joins[field]}/ns/{_NS_FILES[type]}"
            found.append(Namespace(type=type, path=path))  # type: ignore[arg-type]
        elif mode != "host":
            found.append(Namespace(type=type))  # type: ignore[arg-type]
    if given.users:
        path = f"{JOINED}{given.users.join}/ns/user" if given.users.join else ""
        found.append(Namespace(type="user", path=path))
    missing = [ns.type for ns in found if _kernel_name(ns.type) not in given.host.namespaces]
    if given.host.namespaces and missing:
        if missing == ["cgroup"]:
            found = [ns for ns in found if ns.type != "cgroup"]
        else:
            raise Unsupported(
                f"this kernel has no {missing[0]} namespaces", "use a kernel built with CONFIG_NAMESPACES"
            )
    return tuple(found)


def _kernel_name(type: str) -> str:
    return {"mount": "mnt", "network": "net"}.get(type, type)


def _mounts(host_config: HostConfig, given: Surroundings) -> tuple[Mount, ...]:
    """The root, the kernel's filesystems, the container's own files, then what was asked for, outermost first."""
    taken = {mount.target for mount in given.mounts}
    options = given.rootfs.mount_options()
    result = [Mount(destination="/", type="overlay", source="overlay", options=options)] if options else []
    result += [mount for mount in _kernel_mounts(host_config, given) if mount.destination not in taken]
    mode = (*(("ro",) if host_config.readonly_rootfs else ()), *_owners(given))
    for target, source in _own_files(host_config, given).items():
        if target not in taken:
            result.append(Mount(destination=target, type="bind", source=source, options=("rbind", *mode, "rprivate")))
    for mount in given.mounts:
        made = mounts.to_oci(mount, given.host, given.users[:2] if given.users else ((), ()))
        if mount.type in ("volume", "image", "secret") and made.type == "bind" and "idmap" not in made.options:
            made = msgspec.structs.replace(made, options=(*made.options, *_owners(given)))
        result.append(made)
    for device, source in given.device_sources.items():  # a user namespace's root may make no nodes
        result.append(Mount(destination=device, type="bind", source=source, options=("bind", "rprivate")))
    return tuple(result)


def _own_files(host_config: HostConfig, given: Surroundings) -> dict[str, str]:
    """Return what is bound in /etc, by target: FILES in each of --chrootdirs too."""
    roots = ("", *_chroot_dirs(host_config))
    found = {f"{root.rstrip('/')}/etc/{name}": f"{given.files}/{name}" for root in roots for name in FILES}
    return found | {f"/etc/{name}": f"{given.own}/{name}" for name in given.passwd_files}


def _chroot_dirs(host_config: HostConfig) -> list[str]:
    text = (host_config.annotations or {}).get(CHROOT_DIRS, "")
    directories = text.split(",") if text else []
    for directory in directories:
        if not directory or "\0" in directory or ".." in directory.split("/"):
            raise InvalidInput(f"invalid chroot directory {directory!r}", "it is a path in the container, without ..")
    return ["/" + posixpath.normpath(directory).strip("/") for directory in directories]


def _owners(given: Surroundings) -> tuple[str, ...]:
    """Return the option with which files that are ours have the container's own users for owners."""
    return ("idmap",) if given.users else ()


def _kernel_mounts(host_config: HostConfig, given: Surroundings) -> list[Mount]:
    restrict = ("nosuid", "noexec", "nodev")
    sys = "rw" if host_config.privileged else "ro"
    groups = "rw" if given.own_groups and given.host.cgroup_mode is CgroupMode.V2 else sys
    found = [
        Mount(destination="/proc", type="proc", source="proc", options=restrict),
        Mount(
            destination="/dev",
            type="tmpfs",
            source="tmpfs",
            options=("nosuid", "strictatime", "mode=755", "size=65536k"),
        ),
        Mount(
            destination="/dev/pts",
            type="devpts",
            source="devpts",
            options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *_tty_group(given)),
        ),
        Mount(destination="/sys", type="sysfs", source="sysfs", options=(*restrict, sys)),
        Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=(*restrict, groups)),
    ]
    # It shows the queues of the IPC namespace that it is mounted in, whosever that is. The host's can't be mounted from
    # a user namespace; mq_open(3) finds a queue without the mount.
    if given.host.mqueue and not (given.users and host_config.ipc_mode == "host"):
        found.append(Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=restrict))
    if host_config.ipc_mode == "host":
        found.append(Mount(destination="/dev/shm", type="bind", source="/dev/shm", options=("rbind", "rprivate")))
    elif "ipc_mode" in given.joins:
        source = f"{JOINED}{given.joins['ipc_mode']}/root/dev/shm"
        found.append(Mount(destination="/dev/shm", type="bind", source=source, options=("rbind", "rprivate")))
    elif host_config.ipc_mode != "none":
        options = (*restrict, "mode=1777", f"size={host_config.shm_size}")
        found.append(Mount(destination="/dev/shm", type="tmpfs", source="shm", options=options))
    return found


def _tty_group(given: Surroundings) -> tuple[str, ...]:
    """Return the group that terminals are of, if the container has it."""
    maps = given.users.gids if given.users else ()
    there = not maps or any(m.container_id <= _TTY < m.container_id + m.size for m in maps)
    return (f"gid={_TTY}",) if there else ()


def _annotations(host_config: HostConfig, given: Surroundings) -> dict[str, str]:
    found = dict(host_config.annotations or {})
    for name in found:
        if not name:
            raise InvalidInput("invalid Annotations: the empty string is not permitted as an annotation key")
        if name.startswith("org.sampan."):
            raise InvalidInput(f"can't use annotation {name}: names under org.sampan. are the engine's own")
    if given.seccomp != "unconfined":
        found[runtime.SECCOMP] = given.seccomp
    if given.own_groups:
        found[runtime.SYSTEMD] = "true"
    if host_config.init:
        found[runtime.INIT] = "true"
    if host_config.group_add:
        found[runtime.GROUP_ADD] = ",".join(host_config.group_add)
    return found


def _sysctls(host_config: HostConfig, given: Surroundings) -> dict[str, str]:
    """Return the settings, and Docker's two defaults: any port and ping for everyone inside."""
    found = {}
    mode = host_config.network_mode
    if mode != "host" and not joined(mode) and not host_config.privileged:
        found = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
        if given.users and mode == "none":  # it is set from inside, where there are fewer groups
            del found["net.ipv4.ping_group_range"]
    for name, value in (host_config.sysctls or {}).items():
        _check_sysctl(name, host_config)
        found[name] = value
    return found


def _class_of_service(host_config: HostConfig, host: Host) -> IntelRdt | None:
    name = (host_config.annotations or {}).get(RDT_CLASS, "")
    if not name:
        return None
    if "/" in name or name in (".", ".."):
        raise InvalidInput(f"invalid --rdt-class: {name[:80]!r}", "it names a directory in /sys/fs/resctrl")
    if not host.resctrl:
        raise Unsupported(
            "unsupported: --rdt-class: no resctrl filesystem is mounted",
            "mount -t resctrl resctrl /sys/fs/resctrl and then sampan system stop: it takes Intel RDT or AMD QoS",
        )
    return IntelRdt(clos_id=name)


def _check_sysctl(name: str, host_config: HostConfig) -> None:
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        kind, mode = "IPC", host_config.ipc_mode
    elif name.startswith("net."):
        kind, mode = "network", host_config.network_mode
    elif name == "kernel.domainname":
        kind, mode = "UTS", host_config.uts_mode
    elif name == "kernel.hostname":
        raise InvalidInput(f"sysctl {name!r} conflicts with OCI field 'hostname'", "use --hostname")
    else:
        raise InvalidInput(
            f'invalid argument: sysctl "{name}" is not in a separate kernel namespace',
            "a container can change those of net., fs.mqueue. and System V IPC only",
        )
    if not re.fullmatch(r"[a-zA-Z0-9_-]+([./][a-zA-Z0-9_-]+)*", name):
        raise InvalidInput(f"invalid sysctl name: {name!r}")
    if mode == "host" or joined(mode):
        raise InvalidInput(f'sysctl "{name}" not allowed in host {kind.lower()} namespace')


def rootfs_of(spec: Spec) -> Rootfs:
    """Return what the root is mounted from, out of the configuration."""
    assert spec.root
    first = spec.mounts[0]
    return Rootfs.of_mount(spec.root.path, first.options if first.destination == "/" else ())


# ------------------------------------------------------------------------------------------------- at the start


def join(spec: Spec, pid_of: Callable[[str], int]) -> Spec:
    """Return the configuration with the ids of joined containers replaced by the pids of their first processes."""

    def resolved(path: str) -> str:
        start = JOINED
        if not path.startswith(start):
            return path
        id, _, rest = path[len(start) :].partition("/")
        return f"/proc/{pid_of(id)}/{rest}"

    if not any(ns.path.startswith(JOINED) for ns in spec.linux.namespaces):
        return spec
    replace = msgspec.structs.replace
    namespaces = tuple(replace(ns, path=resolved(ns.path)) for ns in spec.linux.namespaces)
    mounted = tuple(replace(mount, source=resolved(mount.source)) for mount in spec.mounts)
    return replace(spec, mounts=mounted, linux=replace(spec.linux, namespaces=namespaces))


# ------------------------------------------------------------------------------------------------- exec


def exec_process(body: ExecConfig, spec: Spec, host: Host) -> Process:
    """Return the process of an exec: the container's own with another program, and its restrictions as they were."""
    process = spec.process
    if process is None:
        raise InvalidInput("the container has no process")
    if not body.cmd:
        raise InvalidInput("No exec command specified", "name a program after the container")
    size = body.console_size
    capabilities = process.capabilities
    if body.privileged:
        capabilities = security.every_capability(host)
    return msgspec.structs.replace(
        process,
        args=tuple(body.cmd),
        cwd=body.working_dir or process.cwd,
        env=_exec_environment(process.env, body),
        user=User(username=body.user) if body.user else process.user,
        terminal=body.tty,
        console_size=runtime.Box(height=size[0], width=size[1]) if body.tty and size and all(size) else None,
        capabilities=capabilities,
    )


def _exec_environment(container: tuple[str, ...], body: ExecConfig) -> tuple[str, ...]:
    values = dict(text.partition("=")[::2] for text in container)
    if body.tty:
        values.setdefault("TERM", "xterm")
    for text in body.env or ():
        name, equals, value = text.partition("=")
        if not name:
            raise InvalidInput(f"invalid environment variable: {text}")
        if equals:
            values[name] = value
        else:
            values.pop(name, None)
    return tuple(f"{name}={value}" for name, value in values.items())
