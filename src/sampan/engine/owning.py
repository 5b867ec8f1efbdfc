"""`:U` of a bind or volume: all its files become the container's user's, before each start, as Podman has it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.engine import idmaps
from sampan.engine.translate import rootfs_of
from sampan.errors import InvalidInput, NotPermitted, doing
from sampan.rootfs.union import OTHER, Stack
from sampan.runtime import passwd

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.mounts import Wanted
    from sampan.engine.registry import Container
    from sampan.runtime.passwd import Identity
    from sampan.spec.image import Rootfs
    from sampan.spec.runtime import Mount, Spec

_MOST_BYTES = 1 << 20  # of passwd and group
_DEEPEST = 256
_KEPT = frozenset((
    "/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64", "/media",
    "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log",
))  # fmt: skip
"""Directories that the host needs as they are."""


def give(core: Core, container: Container) -> None:
    """Change the owners of what is mounted with `U`."""
    asked = [mount for mount in container.mounts if mount.chown]
    if not asked:
        return
    spec = core.spec(container)
    by_target = {mount.destination: mount for mount in spec.mounts}
    with doing(f"can't give what is mounted to the user of {container.name}"):
        user = identity(rootfs_of(spec), container.body.user)
        for mount in asked:
            _give(mount, by_target[mount.target], spec, user)


def identity(rootfs: Rootfs, user: str) -> Identity:
    """Look a user up in a container's passwd and group, without a mount of it. Raises InvalidInput."""
    return passwd.look_up(user, image_file(rootfs, "etc/passwd"), image_file(rootfs, "etc/group"))


def image_file(rootfs: Rootfs, path: str) -> bytes:
    """Return a small file of a container's, without a mount of it; one that is not there is empty."""
    with Stack(rootfs.layers) as stack:
        real = stack.real(path, stack.all)
        shown = stack.find(real, stack.all)
        opened = stack.open(shown.layers[0], real) if shown and shown.kind == OTHER else None
        if opened is None:
            return b""
        with open(opened[0], "rb") as file:
            return file.read(_MOST_BYTES)


def _give(wanted: Wanted, mount: Mount, spec: Spec, user: Identity) -> None:
    source = os.path.realpath(mount.source)
    if source in _KEPT:
        raise NotPermitted(
            f"chowning host path {source!r} is not allowed", "mount a directory of its own, or leave U out"
        )
    uid = idmaps.on_disk(user.uid, mount, spec.linux, group=False)
    gid = idmaps.on_disk(user.gid, mount, spec.linux, group=True)
    if wanted.subpath:
        raise InvalidInput(f"can't give {wanted.target} away: U is for a whole volume, not for {wanted.subpath}")
    with doing(f"giving {source} to {uid}:{gid}"):
        chown_tree(source, uid, gid)


def chown_tree(path: str, uid: int, gid: int) -> None:
    """Change the owner of a file, or of a directory and all in it; links themselves, not what they point to.

    Others may write there meanwhile: nothing but `path` is reached by its name from above.
    """
    _chown(path, uid, gid, None)
    if not os.path.isdir(path):
        return
    device = os.stat(path).st_dev
    for directory, directories, files, fd in os.fwalk(path, follow_symlinks=False):
        # A descriptor is open for each level; a hostile tree has thousands, and this server's are all clients'.
        if directory.count("/") - path.count("/") > _DEEPEST:
            raise InvalidInput(f"{path} is nested too deeply")
        for name in (*directories, *files):
            with suppress(FileNotFoundError):
                _chown(name, uid, gid, fd)
        directories[:] = [name for name in directories if _device(name, fd) == device]


def _chown(name: str, uid: int, gid: int, dir_fd: int | None) -> None:
    status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    if (status.st_uid, status.st_gid) != (uid, gid):
        os.chown(name, uid, gid, dir_fd=dir_fd, follow_symlinks=False)


def _device(name: str, dir_fd: int) -> int:
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_dev
    except FileNotFoundError:
        return -1
