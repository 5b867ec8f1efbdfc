"""`--systemd`: what systemd needs as a container's first process: systemd.io/CONTAINER_INTERFACE. Pure.

`true` and `always` give it what Podman does. `auto`, where nothing is said, is for who comes from Docker: systemd gets
that without which it can't start, but /tmp and the journal stay among the container's files, and an /sbin/init that is
another program is started as any.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.engine.merge import joined
from sampan.errors import InvalidInput, Unsupported
from sampan.runtime.cgroups import NAMED
from sampan.spec.annotations import SYSTEMD
from sampan.spec.host import CgroupMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sampan.engine.mounts import Wanted
    from sampan.spec.docker import ContainerCreate, HostConfig
    from sampan.spec.host import Host

STOP_SIGNAL = "RTMIN+3"
"""At SIGTERM systemd starts itself anew; this one has it shut everything down: systemd(1), Signals."""

_MODES = ("auto", "true", "false", "always")
_INITS = frozenset({"/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"})
_RUN = ("/run", "/run/lock")
_PODMANS = ("/tmp", "/var/log/journal")  # in the container
_TMPFS = "exec,tmpcopyup"
_GROUPS = "/sys/fs/cgroup"


def mode(full: ContainerCreate, real: Callable[[str], str]) -> str:
    """Return how the program of a completed body is run as systemd: auto, true or always; "" where it isn't.

    `real` follows the links of a path in the image. Raises InvalidInput.
    """
    word = (full.host_config.annotations or {}).get(SYSTEMD, "auto")
    if word not in _MODES:
        raise InvalidInput(f'--systemd values must be one of "{", ".join(_MODES)}": {word[:80]!r}')
    if word == "false" or (word != "always" and not _is_called_so(full)):
        return ""
    if word == "auto" and posixpath.basename(real(_program(full))) != "systemd":
        return ""
    if instead := _other_first_process(full.host_config):
        if word == "auto":
            return ""
        raise InvalidInput(f"conflicting options: --systemd={word} and {instead}", "systemd must be process 1")
    return word


def _program(full: ContainerCreate) -> str:
    """Return the program's name. Where an image's build has put a shell before the command, that is passed over."""
    words = (*(full.entrypoint or ()), *(full.cmd or ()))
    return words[2] if len(words) > 2 and words[:2] == ("/bin/sh", "-c") else words[0]


def _is_called_so(full: ContainerCreate) -> bool:
    program = _program(full)
    return program in _INITS or posixpath.basename(program) == "systemd"


def _other_first_process(host_config: HostConfig) -> str:
    if host_config.init:
        return "--init"
    return f"--pid {host_config.pid_mode}" if host_config.pid_mode else ""


def in_memory(mode: str) -> dict[str, str]:
    """Return where such a container has a tmpfs, unless it has another mount there, with its options."""
    places = {"": (), "auto": _RUN}.get(mode, (*_RUN, *_PODMANS))
    return dict.fromkeys(places, _TMPFS)


def applied(asked: ContainerCreate, full: ContainerCreate, mode: str) -> ContainerCreate:
    """Return the completed body with what it has beside a tmpfs. `asked` is the body before it was completed.

    Images have made a volume of its control groups, for whoever binds the host's there.
    """
    host_config = replace(
        full.host_config,
        cgroupns_mode=asked.host_config.cgroupns_mode or "private",
        annotations={**(full.host_config.annotations or {}), SYSTEMD: mode},
    )
    volumes = {target: nothing for target, nothing in (full.volumes or {}).items() if target.rstrip("/") != _GROUPS}
    return replace(full, stop_signal=full.stop_signal or STOP_SIGNAL, volumes=volumes or None, host_config=host_config)


def gave_signal(body: ContainerCreate) -> bool:
    """Tell whether a container's stop signal is systemd's: for its program, not for others that an image may run."""
    return SYSTEMD in (body.host_config.annotations or {}) and body.stop_signal == STOP_SIGNAL


def environment(id: str) -> tuple[str, ...]:
    """Return the variables by which systemd knows that it is in a container, and whose machine-id(5) it is."""
    return ("container=docker", f"container_uuid={id[:32]}")


def owns_groups(body: ContainerCreate, mode: str, mounts: Iterable[Wanted], host: Host, warnings: list[str]) -> bool:
    """Tell whether it arranges its own control groups, with a warning where `auto` can't have it so.

    Who mounts something there knows how systemd is to find them. Raises Unsupported.
    """
    if any(f"{mount.target}/".startswith(f"{_GROUPS}/") for mount in mounts):
        return False
    host_config = body.host_config
    cause, hint = _lacking(host_config, host)
    if not cause and _could_lift_limits(host_config, host):
        if mode != "auto":
            warnings.append(f"the container can lift its own limits: {_NOT_DELEGATED}")
            return True
        cause, hint = f"it could lift its own limits: {_NOT_DELEGATED}", "--systemd=true lets it"
    if cause and mode != "auto":
        raise Unsupported(f"can't let systemd arrange its control groups: {cause}", hint)
    if cause:
        warnings.append(f"systemd may not start, as it can't arrange its control groups: {cause}; {hint}")
    return not cause


def _could_lift_limits(host_config: HostConfig, host: Host) -> bool:
    """Whether writable groups are more than it would have without them; cgroups(7), "Cgroup delegation".

    The root of a user namespace gets its groups without the files that limit it. One that is another container's may
    be no other than the host's.
    """
    mapped = host_config.userns_mode not in ("", "host") and not joined(host_config.userns_mode)
    return host.cgroup_mode is CgroupMode.V2 and not (host.cgroup_delegates or host_config.privileged or mapped)


_NOT_DELEGATED = f"{_GROUPS} is mounted without nsdelegate"


def _lacking(host_config: HostConfig, host: Host) -> tuple[str, str]:
    """Return why there are no groups for it, and what to do; two empty words where there are."""
    if host.cgroup_mode is CgroupMode.NONE:
        return "none are mounted on this host", f"mount them at {_GROUPS}: cgroups(7)"
    if host.cgroup_mode is CgroupMode.V1 and NAMED not in dict(host.cgroup_mounts):
        place = f"{_GROUPS}/systemd"
        return (
            f"this host has not mounted the hierarchy {NAMED}",
            f"mkdir {place} && mount -t cgroup -o none,{NAMED} systemd {place} && sampan system stop",
        )
    shared = host_config.cgroupns_mode != "private" and not host_config.privileged
    if host.cgroup_mode is CgroupMode.V2 and shared:
        return f"--cgroupns {host_config.cgroupns_mode} shows it those of others", "leave --cgroupns out"
    return "", ""
