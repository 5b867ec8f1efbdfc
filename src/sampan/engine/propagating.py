"""Binds through which mounts travel: `shared` both ways, `slave` into the container.

The keeper and this server have the host's mounts as slaves, so that their own stay their own. What is to reach the host
is therefore copied in the mount namespace that the keeper was started in, where the copy is a peer of the host's mount.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Failed, Unsupported, doing
from sampan.kernel.mount import mountinfo
from sampan.kernel.namespaces import CLONE, setns, unshare
from sampan.runtime.mounts import NAMESPACE, is_bind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.kernel.mount import MountInfo
    from sampan.spec.runtime import Mount, Spec

_BOTH_WAYS = frozenset({"shared", "rshared"})
_TRAVELLING = _BOTH_WAYS | {"slave", "rslave"}


def through_host(spec: Spec, host_fd: int | None) -> Spec:
    """Return the configuration with shared binds to be copied in the host's mount namespace, open at `host_fd`.

    Raises Failed in Docker's words where mounts can't travel. Nothing is asked of a bind whose mounts stay apart.
    """
    if not any(_travels(mount) for mount in spec.mounts):
        return spec
    table = mountinfo()
    return msgspec.structs.replace(spec, mounts=tuple(_checked(mount, table, host_fd) for mount in spec.mounts))


def check_seen(sources: Iterable[str], host_fd: int | None) -> None:
    """Raise Failed for a bind of what the host has mounted since the keeper's start, where that does not reach us.

    On a host whose root is no shared mount (systemd makes it one) the directory below would be shown without a word.
    """
    ours = mountinfo()
    if host_fd is None or any(word.startswith("master:") for word in _mount_of("/", ours).propagation):
        return
    theirs = _mounts_in(host_fd)
    known = {(mount.device, mount.mount_point) for mount in ours}
    for source in sources:
        on = _mount_of(os.path.realpath(source), theirs)
        if (on.device, on.mount_point) not in known:
            raise Failed(
                f"can't bind {source}: {on.mount_point} was mounted after this engine's start, and does not reach it",
                "`sampan system stop`, then again: the next one sees it, and containers go on. "
                "`mount --make-rshared /` beforehand lets later mounts reach it",
            )


def _mounts_in(namespace_fd: int) -> list[MountInfo]:
    """List the mounts of another namespace, by a thread that goes there: it has a root of its own for that."""

    def look() -> list[MountInfo]:
        unshare(CLONE.FS)
        setns(namespace_fd, CLONE.NEWNS)
        return mountinfo("thread-self")

    with ThreadPoolExecutor(1) as thread, doing("can't look at the host's mounts"):
        return thread.submit(look).result()


def _travels(mount: Mount) -> bool:
    return is_bind(mount) and not _TRAVELLING.isdisjoint(mount.options)


def _checked(mount: Mount, table: list[MountInfo], host_fd: int | None) -> Mount:
    if not _travels(mount):
        return mount
    on = _mount_of(os.path.realpath(mount.source), table)
    both = not _BOTH_WAYS.isdisjoint(mount.options)
    if not any(word.startswith("master:") for word in on.propagation):  # the host's is not shared, nor a slave
        kind = "a shared mount" if both else "a shared or slave mount"
        raise Failed(
            f"path {mount.source} is mounted on {on.mount_point} but it is not {kind}",
            f"mount --make-shared {on.mount_point}",
        )
    if not both:
        return mount
    if host_fd is None:
        raise Unsupported(
            f"can't share the mounts of {mount.source}: this server was started by an older keeper",
            "sampan system stop",
        )
    return msgspec.structs.replace(mount, options=(*mount.options, f"{NAMESPACE}/proc/{os.getpid()}/fd/{host_fd}"))


def _mount_of(path: str, table: list[MountInfo]) -> MountInfo:
    """Return the mount that a path is on: of several at one place the last one."""
    above = [m for m in table if f"{path}/".startswith(m.mount_point.rstrip("/") + "/")]
    longest = max(len(m.mount_point) for m in above)
    return [m for m in above if len(m.mount_point) == longest][-1]
