"""Mounts whose files have other owners: a user namespace says which; imported only where a plan has one.

Done by the caller, in the first user namespace: the kernel asks for CAP_SYS_ADMIN over the filesystem itself.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from sampan.errors import SyscallError, Unsupported
from sampan.kernel import mount, namespaces
from sampan.kernel.mount import AT, MOUNT_ATTR
from sampan.kernel.namespaces import CLONE
from sampan.runtime import mounting

if TYPE_CHECKING:
    from sampan.runtime import ops
    from sampan.spec.runtime import IdMapping


def map_mount(op: ops.MapMount) -> int:
    """Return the detached copy of the mount, its ids mapped."""
    tree = mounting.open_tree(op.source, recursive=op.recursive)
    try:
        user = _namespace(op)
        try:
            flags = AT.EMPTY_PATH | (AT.RECURSIVE if op.below else 0)
            mount.mount_setattr(tree, "", flags, set=MOUNT_ATTR.IDMAP, userns_fd=user)
        finally:
            os.close(user)
    except SyscallError as e:
        os.close(tree)
        if e.errno == errno.EINVAL:
            raise Unsupported(
                f"can't map the ids of {op.source}: its filesystem can't do that, or its ids are mapped already"
            ) from e
        raise
    except BaseException:
        os.close(tree)
        raise
    return tree


def _namespace(op: ops.MapMount) -> int:
    if op.user_namespace:
        return os.open(op.user_namespace, os.O_RDONLY | os.O_CLOEXEC)
    return user_namespace(op.uid_mappings, op.gid_mappings)


def user_namespace(uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...]) -> int:
    """Make a user namespace with these mappings that lives as long as the descriptor which is returned."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = namespaces.clone(CLONE.NEWUSER)
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the other end is closed
        os._exit(0)
    try:
        for kind, mappings in (("uid", uids), ("gid", gids)):
            text = "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings)
            fd = os.open(f"/proc/{pid}/{kind}_map", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reader)
        os.close(writer)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
