"""Mounts whose files have other owners: a user namespace says which; imported only where a plan has one.

Done by the caller, in the first user namespace: the kernel asks for CAP_SYS_ADMIN over the filesystem itself. Layers of
an overlay take Linux 5.19.
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Failed, InvalidInput, SyscallError, Unsupported
from sampan.kernel import credentials, mount, namespaces
from sampan.kernel.mount import AT, AT_FDCWD, MOUNT_ATTR, MOVE_MOUNT, MS
from sampan.kernel.namespaces import CLONE
from sampan.runtime import mounting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sampan.runtime import ops
    from sampan.spec.runtime import IdMapping

_COVERED = "/proc"
"""Some directory that every host has."""
_READ = os.O_RDONLY | os.O_CLOEXEC


def map_mount(op: ops.MapMount) -> int:
    """Return the detached copy of the mount, its ids mapped."""
    tree = mounting.open_tree(op.source, recursive=op.recursive, subpath=op.subpath)
    try:
        with closing_fd(_namespace(op)) as user:
            _map(tree, user, op.source, below=op.below)
    except BaseException:
        os.close(tree)
        raise
    return tree


def mount_overlay(op: ops.MountOverlay) -> int:
    """Mount layers whose ids are mapped, and return the detached mount.

    overlayfs takes directories by their paths: in a mount namespace of its own, which ends with this, mapped copies
    cover those of the host.
    """
    with closing_fd(_namespace(op)) as user, closing_fd(os.open("/proc/self/ns/mnt", _READ)) as ours:
        namespaces.unshare(CLONE.NEWNS)
        try:
            mount.mount(None, "/", None, MS.PRIVATE | MS.REC)
            _cover(op, user)
            lower = tuple(op.target if directory == "/" else directory for directory in op.lowerdirs)
            with _as_owner(op.workdir):
                return mounting.mount_apart(msgspec.structs.replace(op, lowerdirs=lower))
        finally:
            namespaces.setns(ours, CLONE.NEWNS)


def mount_mapped(op: ops.MountMapped) -> int:
    """Mount a filesystem, its ids mapped, and return the detached mount.

    It is made in a mount namespace of its own, as only mount(2) takes options in mount(8)'s words.
    """
    with closing_fd(_namespace(op)) as user, closing_fd(os.open("/proc/self/ns/mnt", _READ)) as ours:
        namespaces.unshare(CLONE.NEWNS)
        try:
            mount.mount(None, "/", None, MS.PRIVATE | MS.REC)
            mount.mount(op.source, _COVERED, op.type, mounting.mount_flags(op.options), op.data or None)
            tree = mounting.open_tree(_COVERED, recursive=False)
            try:
                _map(tree, user, op.source)
            except BaseException:
                os.close(tree)
                raise
            return tree
        finally:
            namespaces.setns(ours, CLONE.NEWNS)


@contextmanager
def _as_owner(workdir: str) -> Iterator[None]:
    """Be the user whose a directory is, with all capabilities.

    What overlayfs makes for itself is made as who mounted it, who must be among those that are mapped.
    """
    if not workdir:
        yield
        return
    facts, before = os.stat(workdir), credentials.capget()
    os.setegid(facts.st_gid)
    os.seteuid(facts.st_uid)
    try:
        credentials.capset(*before)
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        credentials.capset(*before)


def _cover(op: ops.MountOverlay, user: int) -> None:
    """Cover what the layers are in; the root itself, which can't be covered, is to be found at the overlay's target."""
    places = {top: top for top in _tops(directory for directory in op.lowerdirs if directory != "/")}
    places |= {top: top for top in _tops(filter(None, (op.upperdir, op.workdir)))}
    if "/" in op.lowerdirs:
        places[op.target] = "/"
    with ExitStack() as closing:
        trees = {}
        for place, source in places.items():
            trees[place] = closing.enter_context(closing_fd(mounting.open_tree(source, recursive=False)))
            _map(trees[place], user, source)
        for place in sorted(trees):  # what is above first: it would cover the others
            mount.move_mount(trees[place], "", AT_FDCWD, place, MOVE_MOUNT.F_EMPTY_PATH)


def _tops(directories: Iterable[str]) -> set[str]:
    """Return the directory that all are in, if one filesystem has them, else all."""
    found = {os.path.realpath(directory) for directory in directories}  # move_mount(2) follows no link
    top = os.path.commonpath(found) if found else "/"
    devices = {os.stat(directory).st_dev for directory in (*found, top)}
    return {top} if top != "/" and len(devices) == 1 else found


def _map(tree: int, user: int, source: str, *, below: bool = False) -> None:
    try:
        flags = AT.EMPTY_PATH | (AT.RECURSIVE if below else 0)
        mount.mount_setattr(tree, "", flags, set=MOUNT_ATTR.IDMAP, userns_fd=user)
    except SyscallError as e:
        if e.errno != errno.EINVAL:
            raise
        raise Unsupported(
            f"can't map the ids of {source}: its filesystem can't do that, or its ids are mapped already",
            "ext4, xfs, btrfs and tmpfs can, on Linux 6.3 or later",
        ) from e


def _namespace(op: ops.MapMount | ops.MountOverlay | ops.MountMapped) -> int:
    if op.user_namespace:
        return os.open(op.user_namespace, _READ)
    return user_namespace(op.uid_mappings, op.gid_mappings)


def user_namespace(uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...]) -> int:
    """Make a user namespace with these mappings that lives as long as the descriptor which is returned."""
    with process_in(CLONE.NEWUSER, uids, gids) as pid:
        return os.open(f"/proc/{pid}/ns/user", _READ)


@contextmanager
def process_in(flags: int, uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...]) -> Iterator[int]:
    """Have a process in new namespaces in the block; the mappings are for one of users among them."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = namespaces.clone(flags)
    except SyscallError as e:
        os.close(reader)
        os.close(writer)
        if e.errno != errno.ENOSPC:  # no disk is full: clone(2)
            raise
        raise Failed(
            "can't make a user namespace: there are as many as this host allows",
            "raise /proc/sys/user/max_user_namespaces",
        ) from e
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the other end is closed
        os._exit(0)
    try:
        for kind, mappings in (("uid", uids), ("gid", gids)) if flags & CLONE.NEWUSER else ():
            text = "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings)
            if len(text) >= mmap.PAGESIZE:  # user_namespaces(7)
                raise InvalidInput(f"there are too many rows: the kernel takes {mmap.PAGESIZE - 1} bytes of them")
            with closing_fd(os.open(f"/proc/{pid}/{kind}_map", os.O_WRONLY | os.O_CLOEXEC)) as fd:
                os.write(fd, text.encode())
        yield pid
    finally:
        os.close(reader)
        os.close(writer)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """Close a descriptor behind the block."""
    try:
        yield fd
    finally:
        os.close(fd)
