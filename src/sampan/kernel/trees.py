"""Whole directory trees: remove them however deep, following no link; see them onto the disk."""

from __future__ import annotations

import errno
import os
import stat
from ctypes import c_int
from itertools import count

from sampan.kernel.libc import Call

_syncfs = Call("syncfs", c_int)


def remove_tree(path: str) -> None:
    """Remove `path`, a directory with all in it or any other file; that it is gone already is fine."""
    import shutil

    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        if os.path.lexists(path):  # something inside vanished meanwhile: somebody else removes it too
            shutil.rmtree(path, ignore_errors=True)
    except NotADirectoryError:
        os.unlink(path)
    except (RecursionError, OSError) as e:
        # rmtree keeps a frame or a descriptor for each level. Hostile trees have thousands.
        if isinstance(e, OSError) and e.errno not in {errno.EMFILE, errno.ENAMETOOLONG}:
            raise
        _remove_flattened(path)


def _remove_flattened(path: str) -> None:
    """Move every directory to the top of the tree when it is found, then empty it: no depth is left."""
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        directories = _empty(root)
        numbers = count()
        while directories:
            name = directories.pop()
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
            try:
                for below in _empty(directory):
                    directories.append(_move_up(below, directory, root, numbers))
            finally:
                os.close(directory)
            os.rmdir(name, dir_fd=root)
    finally:
        os.close(root)
    os.rmdir(path)


def _empty(directory: int) -> list[str]:
    """Unlink all that is no directory; return the names of the directories."""
    directories = []
    with os.scandir(directory) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            directories.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=directory)
    return directories


def _move_up(name: str, directory: int, root: int, numbers: count[int]) -> str:
    while True:
        new = f".removed-{next(numbers)}"
        try:
            os.rename(name, new, src_dir_fd=directory, dst_dir_fd=root)
        except OSError as e:
            if e.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise
        else:
            return new


def copy_tree(source: str, target: str) -> None:
    """Copy what is in the directory `source` into the new one `target`: with owners, times, attributes and devices.

    Files that have several names in `source` have them in `target`, too. Nobody may write to either meanwhile.
    """
    names: dict[tuple[int, int], str] = {}
    directories = [("", os.lstat(source))]
    done = []
    while directories:
        path, status = directories.pop()
        done.append((path, status))
        with os.scandir(f"{source}/{path}") as entries:
            for entry in entries:
                below, status = f"{path}/{entry.name}", entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    os.mkdir(target + below, 0o700)
                    directories.append((below, status))
                elif first := names.get((status.st_dev, status.st_ino)):
                    os.link(first, target + below, follow_symlinks=False)
                else:
                    _copy_file(source + below, target + below, status)
                    names[status.st_dev, status.st_ino] = target + below
    for path, status in reversed(done):  # files in them change their times
        if path:
            _describe(source + path, target + path, status)


def _copy_file(source: str, target: str, status: os.stat_result) -> None:
    import shutil

    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode):
        shutil.copyfile(source, target)
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    _describe(source, target, status)


def _describe(source: str, target: str, status: os.stat_result) -> None:
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def sync_filesystem(fd: int) -> None:
    """Wait until all that was written to the filesystem of `fd` is on its disk; syncfs(2)."""
    _syncfs(fd)
