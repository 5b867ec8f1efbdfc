"""The steps that make a root filesystem, as they are performed.

Targets inside the container's root are opened once, by openat2 in that root, and mounted on through the descriptor: no
link that a container has made leads a mount elsewhere. CVE-2021-30465, CVE-2023-27561, CVE-2023-28642.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.errors import Failed, SyscallError
from sampan.kernel import mount, namespaces
from sampan.kernel.mount import AT, AT_FDCWD, MOUNT_ATTR, MOVE_MOUNT, MS, OPEN_TREE
from sampan.kernel.namespaces import CLONE
from sampan.kernel.path import RESOLVE, mkdirs_in_root, open_in_root, openat2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.runtime import ops
    from sampan.runtime.scene import Scene

_FLAGS = {
    "ro": int(MS.RDONLY),
    "nosuid": int(MS.NOSUID),
    "nodev": int(MS.NODEV),
    "noexec": int(MS.NOEXEC),
    "sync": int(MS.SYNCHRONOUS),
    "dirsync": int(MS.DIRSYNC),
    "mand": int(MS.MANDLOCK),
    "noatime": int(MS.NOATIME),
    "nodiratime": int(MS.NODIRATIME),
    "relatime": int(MS.RELATIME),
    "strictatime": int(MS.STRICTATIME),
    "lazytime": int(MS.LAZYTIME),
    "nosymfollow": int(MS.NOSYMFOLLOW),
    "iversion": int(MS.I_VERSION),
    "acl": int(MS.POSIXACL),
    "silent": int(MS.SILENT),
}
_ATTRIBUTES = {
    "ro": int(MOUNT_ATTR.RDONLY),
    "nosuid": int(MOUNT_ATTR.NOSUID),
    "nodev": int(MOUNT_ATTR.NODEV),
    "noexec": int(MOUNT_ATTR.NOEXEC),
    "noatime": int(MOUNT_ATTR.NOATIME),
    "nodiratime": int(MOUNT_ATTR.NODIRATIME),
    "strictatime": int(MOUNT_ATTR.STRICTATIME),
    "relatime": 0,
    "nosymfollow": int(MOUNT_ATTR.NOSYMFOLLOW),
}
_TIMES = frozenset({"noatime", "strictatime", "relatime", "atime", "norelatime", "nostrictatime"})
# What clears an attribute. The three about access times say one thing of three: without either it is relatime.
_CLEARED = {
    "rw": int(MOUNT_ATTR.RDONLY),
    "suid": int(MOUNT_ATTR.NOSUID),
    "dev": int(MOUNT_ATTR.NODEV),
    "exec": int(MOUNT_ATTR.NOEXEC),
    "diratime": int(MOUNT_ATTR.NODIRATIME),
    "symfollow": int(MOUNT_ATTR.NOSYMFOLLOW),
    "atime": 0,
    "norelatime": 0,
    "nostrictatime": 0,
}
_PROPAGATIONS = {
    "private": int(MS.PRIVATE),
    "slave": int(MS.SLAVE),
    "shared": int(MS.SHARED),
    "unbindable": int(MS.UNBINDABLE),
}
# Plain numbers: joining flags of an enum takes microseconds each time, of two enums ten.
_HERE = int(MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH)
_EMPTY_PATH, _RECURSIVE = int(AT.EMPTY_PATH), int(AT.RECURSIVE)
_CLONE = int(OPEN_TREE.CLONE)
_NO_LINKS = int(RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS)
_RDONLY, _ATIME = int(MOUNT_ATTR.RDONLY), int(MOUNT_ATTR.ATIME)
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_LONGEST_PARAMETER = 255  # fsconfig(2) takes no longer string
_MAX_LINKS = 40
_SAME_KIND = (
    "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is "
    "the expected type"
)


# ------------------------------------------------------------------------------------------------------------- the root


def set_propagation(op: ops.SetPropagation) -> None:
    """Change how mounts travel between this namespace and others, with all below."""
    word = op.propagation
    mount.mount(None, op.target, None, _PROPAGATIONS[word.removeprefix("r")] | (MS.REC if word[0] == "r" else 0))


def mount_root(op: ops.MountOverlay, scene: Scene) -> None:
    """Mount the overlay where the root is to be, and open it as the root."""
    if _in_parameters(op):
        attach_overlay(scene, mount_overlay(op))
    else:
        _mount_by_data(op, op.target)
        scene.root_fd = os.open(scene.root, _DIRECTORY | os.O_CLOEXEC)


def mount_layers(op: ops.MountOverlay, scene: Scene) -> None:
    """Mount an overlay at a place of the root."""
    if _in_parameters(op):
        attach(mount_overlay(op), op.target, scene)
        return
    at = place(scene, op.target, directory=True)
    try:
        _mount_by_data(op, f"/proc/self/fd/{at}")
    finally:
        os.close(at)
    forget_parent(scene, op.target)


def attach(tree: int, target: str, scene: Scene) -> None:
    """Attach a detached mount of a directory at a place of the root."""
    try:
        at = place(scene, target, directory=True)
        try:
            mount.move_mount(tree, "", at, "", _HERE)
        finally:
            os.close(at)
    finally:
        os.close(tree)
    forget_parent(scene, target)


def _in_parameters(op: ops.MountOverlay) -> bool:
    return op.one_by_one or len(_joined(op.lowerdirs)) <= _LONGEST_PARAMETER


def _mount_by_data(op: ops.MountOverlay, target: str) -> None:
    """Mount many layers on a kernel that takes them in one page only: named from where most of their paths begin."""
    top = os.path.commonpath([os.path.dirname(d) for d in op.lowerdirs])
    data = [f"lowerdir={_joined([os.path.relpath(d, top) for d in op.lowerdirs])}", *op.options]
    if op.upperdir:
        data += [f"upperdir={_escaped(op.upperdir)}", f"workdir={_escaped(op.workdir)}"]
    os.chdir(top)
    mount.mount("overlay", target, "overlay", data=",".join(data))
    os.chdir("/")


def mount_apart(op: ops.MountOverlay) -> int:
    """Mount the layers in a mount namespace that is made for this alone, and return a detached mount of them."""
    if _in_parameters(op):
        return mount_overlay(op)
    _mount_by_data(op, op.lowerdirs[0])
    return open_tree(op.lowerdirs[0], recursive=False)


def mount_overlay(op: ops.MountOverlay) -> int:
    """Mount the layers, and return the detached mount."""
    fd = mount.fsopen("overlay")
    try:
        mount.fsconfig_string(fd, "source", "overlay")
        if op.one_by_one and all(len(d) <= _LONGEST_PARAMETER for d in op.lowerdirs):
            for directory in op.lowerdirs:
                mount.fsconfig_string(fd, "lowerdir+", directory)
        else:
            mount.fsconfig_string(fd, "lowerdir", _joined(op.lowerdirs))
        if op.upperdir:
            mount.fsconfig_string(fd, "upperdir", op.upperdir)
            mount.fsconfig_string(fd, "workdir", op.workdir)
        for option in op.options:
            key, equals, value = option.partition("=")
            mount.fsconfig_string(fd, key, value) if equals else mount.fsconfig_flag(fd, key)
        mount.fsconfig_create(fd)
        return mount.fsmount(fd)
    except SyscallError as e:
        said = "; ".join(m.partition("overlay: ")[2] or m for m in mount.fs_messages(fd))
        raise Failed(f"{e.strerror or e}".lower() + (f": {said}" if said else "")) from e
    finally:
        os.close(fd)


def _joined(directories: Sequence[str]) -> str:
    return ":".join(_escaped(d) for d in directories)


def _escaped(path: str) -> str:
    """Take their meaning from the characters that divide layers, and options."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def attach_overlay(scene: Scene, overlay_fd: int) -> None:
    """Attach the overlay at the root's directory, and open it as the root."""
    mount.move_mount(overlay_fd, "", AT_FDCWD, scene.root, MOVE_MOUNT.F_EMPTY_PATH)
    scene.root_fd = os.open(scene.root, _DIRECTORY | os.O_CLOEXEC)
    os.close(overlay_fd)


def attach_root(scene: Scene) -> None:
    """Attach the overlay at the working directory: the way to it may be closed to the root of a user namespace."""
    mount.move_mount(scene.overlay_fd, "", AT_FDCWD, ".", MOVE_MOUNT.F_EMPTY_PATH)
    scene.root_fd, scene.overlay_fd = scene.overlay_fd, -1


def bind_root(scene: Scene) -> None:
    """Bind the root's directory onto itself, and open it as the root."""
    mount.mount(scene.root, scene.root, None, MS.BIND | MS.REC)
    scene.root_fd = os.open(scene.root, _DIRECTORY | os.O_CLOEXEC)


def pivot_root(scene: Scene) -> None:
    """Change the root. The old one is then stacked on the new one, from where it is taken away."""
    os.fchdir(scene.root_fd)
    if scene.pivots:
        mount.pivot_root(".", ".")
        mount.umount(".", detach=True)
    else:
        mount.mount(".", "/", None, MS.MOVE)
        os.chroot(".")
    os.chdir("/")


# ------------------------------------------------------------------------------------------------------- below the root


def place(scene: Scene, target: str, *, directory: bool) -> int:
    """Open a mount's target inside the root with O_PATH, having made it where it is missing.

    No link of the image may have led into /proc: labels and parameters are written to what is there. CVE-2019-16884.
    """
    at = open_or_make(scene, target, directory=directory)
    if os.fstat(at).st_dev == scene.proc_device and not f"{posixpath.normpath(target)}/".startswith("/proc/"):
        os.close(at)
        raise Failed("a link leads into /proc from there")
    return at


def open_or_make(scene: Scene, target: str, *, directory: bool) -> int:
    """Do what `place` does, wherever links lead."""
    wanted = _DIRECTORY if directory else os.O_PATH
    try:
        return open_in_root(scene.root_fd, target, wanted)
    except SyscallError as e:
        if e.errno != errno.ENOENT:
            raise
    if not directory:
        return _make_file(scene, target)
    above, name = _split(target)
    try:
        parent = directory_above(scene, above)
        os.mkdir(name, 0o755, dir_fd=parent)
        return openat2(parent, name, _DIRECTORY, resolve=_NO_LINKS)
    except FileExistsError:  # a link that points nowhere: what it points to is made
        return mkdirs_in_root(scene.root_fd, target, 0o755)


def _split(path: str) -> tuple[str, str]:
    above, _, name = path.rstrip("/").rpartition("/")
    return above or "/", name


def directory_above(scene: Scene, path: str) -> int:
    """Return a directory inside the root, made where it is missing; it stays open, for the next step needs it too."""
    if scene.parent_path != path:
        forget_parent(scene)
        scene.parent_fd = mkdirs_in_root(scene.root_fd, path, 0o755)
        scene.parent_path = path
    return scene.parent_fd


def forget_parent(scene: Scene, covered: str = "/") -> None:
    """Close the directory that was kept, if a mount on `covered` hides it."""
    if scene.parent_fd >= 0 and f"{scene.parent_path}/".startswith(covered.rstrip("/") + "/"):
        os.close(scene.parent_fd)
        scene.parent_fd, scene.parent_path = -1, ""


def _make_file(scene: Scene, target: str) -> int:
    """Make an empty file; where the name is a link that points nowhere, make what it points to."""
    for _ in range(_MAX_LINKS):
        above, name = _split(target)
        parent = directory_above(scene, above)
        try:
            os.close(openat2(parent, name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode=0o644, resolve=RESOLVE.BENEATH))
            return openat2(parent, name, os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE.BENEATH)
        except SyscallError as e:
            if e.errno != errno.EEXIST:
                raise
        link = os.readlink(name, dir_fd=parent)
        target = link if link.startswith("/") else f"{above}/{link}"
    raise SyscallError(errno.ELOOP, "openat2", target)


def mount_filesystem(op: ops.Mount, scene: Scene) -> None:
    """Mount a filesystem at a place of the root. A tmpfs takes the mode of a directory that it covers."""
    covers = op.type == "tmpfs" and "mode=" not in op.data and _is_there(scene, op.target)
    at = _ordinary(scene, op.target) if op.type in _KERNELS else place(scene, op.target, directory=True)
    try:
        flags, data = mount_flags(op.options), op.data
        if covers:
            data = ",".join(filter(None, (data, f"mode={stat.S_IMODE(os.fstat(at).st_mode):o}")))
        early = flags & ~MS.RDONLY if op.copy_up else flags
        mount.mount(op.source, f"/proc/self/fd/{at}", op.type, early, data or None)
        forget_parent(scene, op.target)
        if op.type == "proc":
            scene.proc_device = os.stat(op.target.strip("/"), dir_fd=scene.root_fd).st_dev
        if op.copy_up or op.recursive or op.propagation:
            _finish(op, scene, at, flags)
    finally:
        os.close(at)


_KERNELS = frozenset({"proc", "sysfs"})


def open_if_there(scene: Scene, path: str) -> int | None:
    """Open a place in the root; None where there is nothing."""
    try:
        return open_in_root(scene.root_fd, path, os.O_PATH)
    except SyscallError as e:
        if e.errno in {errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
            return None
        raise


def _is_there(scene: Scene, target: str) -> bool:
    at = open_if_there(scene, target)
    if at is not None:
        os.close(at)
    return at is not None


def _ordinary(scene: Scene, target: str) -> int:
    """Open the place of a filesystem that is the kernel's own: no link may be on the way there.

    Another container may turn round where a link leads, before it is masked. CVE-2019-19921, CVE-2023-27561.
    """
    try:
        os.close(open_or_make(scene, target, directory=True))
        return openat2(scene.root_fd, target.strip("/"), _DIRECTORY, resolve=_NO_LINKS)
    except SyscallError as e:
        if e.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise Failed("it must be an ordinary directory, and no link lead to it") from None
        raise


def _finish(op: ops.Mount, scene: Scene, covered: int, flags: int) -> None:
    """Do what mount(2) can't do in the same call; `covered` is the directory under the mount."""
    new = open_in_root(scene.root_fd, op.target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if op.copy_up:
            from sampan.runtime import copy_up  # loaded before the fork

            copy_up.copy(covered, new, {word.partition("=")[0] for word in op.data.split(",")})
            mount.mount(None, f"/proc/self/fd/{new}", None, MS.REMOUNT | flags, op.data or None)
        _set_attributes(new, op.recursive, _RECURSIVE)
        for word in op.propagation:
            _set_propagation(new, word)
    finally:
        os.close(new)


def mount_flags(words: Sequence[str]) -> int:
    """Return the flags of mount(2) for words of mount(8)."""
    found = 0
    for word in words:
        found |= _FLAGS[word]
    return found


def remount(op: ops.Remount, scene: Scene) -> None:
    """Change the options of what is mounted at a place of the root."""
    at = open_in_root(scene.root_fd, op.target, os.O_PATH)
    try:
        flags = MS.REMOUNT | (MS.BIND if op.of_mount else 0) | mount_flags(op.options)
        mount.mount(None, f"/proc/self/fd/{at}", None, flags, op.data or None)
    finally:
        os.close(at)


def open_tree(source: str, *, recursive: bool, subpath: str = "") -> int:
    """Copy a mount of the host's, detached: of a place, or of one below it that is reached without leaving it."""
    flags = _CLONE | (_RECURSIVE if recursive else 0)
    if not subpath:
        return mount.open_tree(AT_FDCWD, source, flags)
    opened = []
    try:
        opened.append(os.open(source, _DIRECTORY | os.O_CLOEXEC))
        opened.append(open_in_root(opened[0], subpath, os.O_PATH))
        return mount.open_tree(opened[1], "", flags | _EMPTY_PATH)
    finally:
        for fd in opened:
            os.close(fd)


def bind(op: ops.Bind, scene: Scene) -> None:
    """Copy the host's mount, restrict the copy, and attach it: it is never to be seen unrestricted."""
    tree = scene.trees.pop(op.target, -1)
    if tree < 0:
        tree = scene.borrowed.pop(op.source, -1)
    if tree < 0:
        tree = open_tree(op.source, recursive=op.recursive, subpath=op.subpath)
    try:
        _set_propagation(tree, op.propagation)
        _set_attributes(tree, op.options, 0)
        _set_attributes(tree, op.recursive_options, _RECURSIVE)
        at = _place_alike(scene, op.target, tree)
        try:
            mount.move_mount(tree, "", at, "", _HERE)
        finally:
            os.close(at)
    finally:
        os.close(tree)
    forget_parent(scene, op.target)


def _place_alike(scene: Scene, target: str, tree: int) -> int:
    """Open the target of a bind: a directory where the source is one, and only then."""
    is_directory = stat.S_ISDIR(os.fstat(tree).st_mode)
    try:
        at = place(scene, target, directory=is_directory)
    except SyscallError as e:
        if e.errno == errno.ENOTDIR:
            raise Failed("a directory can't cover a file", _SAME_KIND) from None
        raise
    if stat.S_ISDIR(os.fstat(at).st_mode) and not is_directory:
        os.close(at)
        # Not in the words of EISDIR: by those docker's client knows a program that can't be executed.
        raise Failed("a file can't cover a directory", _SAME_KIND)
    return at


def borrow(op: ops.Borrow, scene: Scene) -> None:
    """Copy a mount in the other namespace, whose owner may have made links of the path: they are not followed."""

    def copy() -> int:
        at = openat2(AT_FDCWD, op.path(), os.O_PATH, resolve=RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS)
        try:
            return mount.open_tree(at, "", _CLONE | _EMPTY_PATH)
        finally:
            os.close(at)

    scene.borrowed[op.source] = in_namespace(op.namespace(), copy)


def in_namespace(path: str, act: Callable[[], int]) -> int:
    """Do something in another mount namespace."""
    ours = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        theirs = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespaces.setns(theirs, CLONE.NEWNS)
        finally:
            os.close(theirs)
        try:
            return act()
        finally:
            namespaces.setns(ours, CLONE.NEWNS)
    finally:
        os.close(ours)


def _set_propagation(tree: int, word: str) -> None:
    recursive = _RECURSIVE if word.startswith("r") else 0
    mount.mount_setattr(tree, "", _EMPTY_PATH | recursive, propagation=_PROPAGATIONS[word.removeprefix("r")])


def _set_attributes(tree: int, words: Sequence[str], flags: int) -> None:
    if not words:
        return
    set = clear = 0
    for word in words:
        set |= _ATTRIBUTES.get(word, 0)
        clear |= _CLEARED.get(word, 0)
    if not _TIMES.isdisjoint(words):
        clear |= _ATIME  # a field of values, which is cleared as a whole; mount_setattr(2)
    mount.mount_setattr(tree, "", _EMPTY_PATH | flags, set=set, clear=clear)


# ------------------------------------------------------------------------------------------------------ nodes and links


def make_directory(op: ops.MakeDirectory, scene: Scene) -> None:
    """Make a directory and those above it."""
    os.close(place(scene, op.path, directory=True))


def make_node(op: ops.MakeNode, scene: Scene) -> None:
    """Make a device node; one that is there must be the same."""
    above, name = _split(op.path)
    parent = directory_above(scene, above)
    kind = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[op.type]
    device = os.makedev(op.major, op.minor)
    try:
        os.mknod(name, op.mode | kind, device, dir_fd=parent)
    except FileExistsError:
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (stat.S_IFMT(there.st_mode), there.st_rdev) != (kind, 0 if op.type == "p" else device):
            raise
    if op.uid or op.gid:
        os.chown(name, op.uid, op.gid, dir_fd=parent, follow_symlinks=False)


def make_link(op: ops.MakeLink, scene: Scene) -> None:
    """Make a symbolic link; a name that is taken stays."""
    above, name = _split(op.path)
    with suppress(FileExistsError):
        os.symlink(op.target, name, dir_fd=directory_above(scene, above))
