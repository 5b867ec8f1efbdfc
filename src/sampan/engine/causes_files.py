"""Causes that are files and ports which the container's user may not have, or not write. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sampan.engine.causes_network import port
from sampan.engine.causes_rights import bounding, gives_back, lacks, not_permitted
from sampan.engine.causes_told import is_in

if TYPE_CHECKING:
    from sampan.engine.causes_told import Told
    from sampan.spec.docker.why import Cause
    from sampan.spec.runtime import Mount

READ_ONLY = re.compile(r"read-only file ?system|\bEROFS\b", re.IGNORECASE)
DENIED = re.compile(r"permission denied(?! \((?:publickey|password))|\bEACCES\b", re.IGNORECASE)

_LISTENS = re.compile(r"\b(?:bind|listen|port\b)", re.IGNORECASE)
_READ_ONLY_OPTIONS = frozenset({"ro", "rro"})
_FIRST_FREE_PORT = "net.ipv4.ip_unprivileged_port_start"
_PRIVILEGED = "run it with --privileged, which gives it all of the host"


def denied(told: Told) -> Cause:
    """Tell of what its user may not do (EACCES): with a file, or listen at a port."""
    number = port(told.line)
    if _LISTENS.search(told.line) and (number or not told.paths):
        return _low_port(told, number)
    if lacks(told):  # mount(8) calls it so
        return not_permitted(told)
    path = told.paths[-1] if told.paths else ""
    what = f"it has no access to {path}" if path else "it was denied access to a file"
    mount = told.mount_of(path) if path else None
    facts = [f"{path} is on the mount of {mount.source} at {mount.destination}"] if mount and _is_given(mount) else []
    if told.user:
        facts.insert(0, f"it runs as user {told.user}")
        return told.cause("access-denied", what, *facts, fix=_owner(told, mount))
    if "CAP_DAC_OVERRIDE" not in bounding(told):
        facts.insert(0, "its root has no CAP_DAC_OVERRIDE: for it the modes of files count")
        return told.cause("access-denied", what, *facts, fix=gives_back(told, "DAC_OVERRIDE"))
    return told.cause(
        "access-denied",
        what,
        "it runs as root",
        *facts,
        fix="if it was to be executed, chmod +x it; anything else that its root may not do with a file is refused by "
        "a security module of the host, or by the server of a network filesystem",
    )


def _is_given(mount: Mount) -> bool:
    return "bind" in mount.options or "rbind" in mount.options


def _owner(told: Told, mount: Mount | None) -> str:
    if mount and _is_given(mount):
        return (
            f"give its files to that user: -v {mount.source}:{mount.destination}:U does, or chown on the host; "
            "or run it with -u 0"
        )
    return f"give the file to that user in the image, by chown {told.user}; or run it with -u 0"


def _low_port(told: Told, number: int) -> Cause:
    where = f"port {number}" if number else "a port below 1024"
    facts = [f"it runs as user {told.user}" if told.user else "its root has no CAP_NET_BIND_SERVICE"]
    first = told.spec.linux.sysctl.get(_FIRST_FREE_PORT, "1024")
    if first != "0":
        facts.append(f"on its network ports below {first} are for root: {_FIRST_FREE_PORT}")
    fix = "have it listen at a port from 1024 on"
    if told.network not in ("host", "container"):
        fix = f"run it with --sysctl {_FIRST_FREE_PORT}=0, or {fix}"
    return told.cause("access-denied", f"it may not listen at {where}", *facts, fix=fix)


def read_only(told: Told) -> Cause:
    """Tell of what it wanted to write where it may not."""
    where = told.paths[-1] if told.paths else ""
    what = f"it may not write to {where or 'its files'}"
    if kernels := next((path for path in told.spec.linux.readonly_paths if is_in(path, where)), ""):
        name = where.removeprefix("/proc/sys/").replace("/", ".")
        fix = f"set it for the container: --sysctl {name}=…" if where.startswith("/proc/sys/") else _PRIVILEGED
        return told.cause("read-only", what, f"{kernels} is read-only in containers", fix=fix)
    mount = told.mount_of(where)
    if mount and not _READ_ONLY_OPTIONS.isdisjoint(mount.options):
        if not _is_given(mount):
            return told.cause("read-only", what, f"{mount.destination} is read-only in containers", fix=_PRIVILEGED)
        given = f"{mount.source} is mounted read-only at {mount.destination}"
        return told.cause("read-only", what, given, fix=f"leave out `ro` where {mount.destination} is mounted")
    if told.body.host_config.readonly_rootfs:
        directory = where.rpartition("/")[0] or where or "PATH"
        return told.cause(
            "read-only",
            what,
            "it runs with --read-only",
            fix=f"give it room to write there: --tmpfs {directory}, or -v NAME:{directory}",
        )
    return told.cause(
        "read-only", what, fix="what it wanted to write is mounted read-only: leave out `ro` where that is mounted"
    )
