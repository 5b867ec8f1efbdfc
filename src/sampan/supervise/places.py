"""Paths in a container, from outside of it: its root is a descriptor, and nothing leads out of that.

Of one that runs it is its first process's root, with all that is mounted there; one that does not run has its root and
its binds mounted for the job, in this process's own mount namespace.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import Conflict, InvalidInput, NotFound
from sampan.kernel import mount
from sampan.kernel.mount import MS
from sampan.kernel.namespaces import CLONE, unshare
from sampan.kernel.path import open_in_root
from sampan.kernel.process import start_time
from sampan.rootfs.union import follow, split
from sampan.supervise.mapped_ids import Ids, become_root_of, of_process

if TYPE_CHECKING:
    from sampan.runtime import ops
    from sampan.runtime.scene import Scene
    from sampan.supervise.messages import Place

_DIRECTORY = os.O_PATH | os.O_DIRECTORY


class Found(NamedTuple):
    """Something in a container: `name` in the directory open at `parent`, or with `name` "" that directory itself."""

    parent: int
    name: str
    status: os.stat_result
    shown: str  # the last component as it was asked for; "/" for the root


def open_root(place: Place) -> tuple[int, Ids]:
    """Return a descriptor of the container's root, and who its users are. What is made then is its root's."""
    if place.pid:
        root, ids = _open_running(place)
        if ids.differ:
            become_root_of(ids)
        return root, ids
    ids = Ids(place.uid_mappings, place.gid_mappings) if place.uid_mappings else Ids()
    return _open_mounted(place, ids), ids


def _open_mounted(place: Place, ids: Ids) -> int:
    from sampan.runtime import masking, mounting, ops, plan as planning
    from sampan.runtime.scene import Scene

    plan = planning.decode(place.plan)
    unshare(CLONE.NEWNS)
    mount.mount(None, "/", None, MS.PRIVATE | MS.REC)
    scene = Scene(plan.root, None)  # type: ignore[arg-type]  # nobody is at the other end
    for step in plan.steps:
        if step.who == "outside":
            _map(step.op, scene)
    if ids.differ:
        become_root_of(ids)
    for op in [step.op for step in plan.steps if step.who == "inside"]:
        if isinstance(op, ops.MountOverlay):
            (mounting.mount_layers if op.inside else mounting.mount_root)(op, scene)
        elif isinstance(op, ops.AttachOverlay):
            mounting.attach(scene.trees.pop(op.target), op.target, scene)
        elif isinstance(op, ops.BindRoot):
            mounting.bind_root(scene)
        elif isinstance(op, ops.Mount):
            mounting.mount_filesystem(op, scene)
        elif isinstance(op, ops.Bind):
            mounting.bind(op, scene)
        elif isinstance(op, ops.MakeReadOnly):
            masking.make_read_only(op, scene)
    return scene.root_fd


def _map(op: ops.Outside | ops.Inside, scene: Scene) -> None:
    """Mount what has other owners than on the disk; the root is attached at once, the rest is kept."""
    from sampan.runtime import idmap, mounting, ops

    if isinstance(op, ops.MapMount):
        scene.trees[op.target] = idmap.map_mount(op)
    elif isinstance(op, ops.MountMapped):
        scene.trees[op.target] = idmap.mount_mapped(op)
    elif isinstance(op, ops.MountOverlay):
        tree = idmap.mount_overlay(op)
        if op.inside:
            scene.trees[op.target] = tree
        else:
            mounting.attach_overlay(scene, tree)


def _open_running(place: Place) -> tuple[int, Ids]:
    """Open the root of a process, which must be the one that was meant: its number may have another by now."""
    try:
        root = os.open(f"/proc/{place.pid}/root", _DIRECTORY | os.O_CLOEXEC)
        ids = of_process(place.pid)
        if start_time(place.pid) == place.start_time:
            return root, ids
        os.close(root)
    except OSError:
        pass
    raise Conflict("it has just ended", "try again")


def find(root: int, path: str) -> Found:
    """Find a path; a link at its end is itself what is found, unless a slash follows. Raises NotFound."""
    clean = posixpath.normpath(f"/{path}").lstrip("/")
    try:
        if not clean or path.endswith(("/", "/.")):
            parent = open_in_root(root, clean or ".", _DIRECTORY)
            shown = "." if path.endswith("/.") else clean.rpartition("/")[2] or "/"
            return Found(parent, "", os.fstat(parent), shown)
        above, _, name = clean.rpartition("/")
        parent = open_in_root(root, above or ".", _DIRECTORY)
        try:
            return Found(parent, name, os.lstat(name, dir_fd=parent), name)
        except OSError:
            os.close(parent)
            raise
    except OSError as e:
        if e.errno in {errno.ENOENT, errno.ELOOP}:
            raise NotFound(f"Could not find the file {path}") from None
        if e.errno == errno.ENOTDIR:
            raise InvalidInput(f"{path}: not a directory") from None
        raise


def open_directory(root: int, path: str) -> int:
    """Open a directory, following links inside the root."""
    try:
        return open_in_root(root, posixpath.normpath(f"/{path}").lstrip("/") or ".", _DIRECTORY)
    except OSError as e:
        if e.errno in {errno.ENOENT, errno.ELOOP}:
            raise NotFound(f"Could not find the file {path}") from None
        if e.errno == errno.ENOTDIR:
            raise InvalidInput("extraction point is not a directory") from None
        raise


def link_target(root: int, path: str) -> str:
    """Return where a path leads, with all links in it followed inside the root; what is missing is as named."""
    return "/" + follow(posixpath.normpath(f"/{path}"), lambda walked: _link(root, *split(walked)))


def _link(root: int, above: str, name: str) -> str:
    try:
        parent = open_in_root(root, above or ".", _DIRECTORY)
    except OSError:
        return ""
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return ""
    finally:
        os.close(parent)


def is_directory(found: Found) -> bool:
    """Tell whether it is one, and no link to one."""
    return stat.S_ISDIR(found.status.st_mode)
