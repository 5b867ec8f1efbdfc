"""Paths that can't leave a root: openat2(2) with RESOLVE_IN_ROOT."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p, sizeof
from enum import IntFlag

from sampan.errors import SyscallError
from sampan.kernel.libc import Syscall


class RESOLVE(IntFlag):
    """How openat2(2) may walk a path."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10
    CACHED = 0x20


# A plain number: joining flags of an enum takes a microsecond each time.
_IN_ROOT = int(RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS)


class _OpenHow(ctypes.Structure):
    _fields_ = [(name, c_uint64) for name in ("flags", "mode", "resolve")]


_openat2 = Syscall("openat2", c_int, c_char_p, c_void_p, c_size_t)

_MAX_LINKS = 40  # as many as the kernel follows in one path; path_resolution(7)
_TRIES = 128


def openat2(dirfd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Open `path` as `resolve` allows. The descriptor is close-on-exec."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    for attempt in range(_TRIES):
        try:
            return _openat2(dirfd, encoded, byref(how), sizeof(how), path=path)
        except SyscallError as e:
            # A rename elsewhere while ".." was walked: openat2(2) says to try again.
            if e.errno != errno.EAGAIN or resolve & RESOLVE.CACHED or attempt == _TRIES - 1:
                raise
    raise AssertionError


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as a process whose root is `root_fd` would: links and ".." stay inside. CVE-2024-45310."""
    return openat2(root_fd, path, flags, mode=mode, resolve=_IN_ROOT)


def read_in_root(root_fd: int, path: str, limit: int) -> bytes:
    """Return the beginning of a file in that root; nothing of one that is missing, or is no regular file.

    It is looked at before it is opened: to open a device may be an action, of a watchdog for example.
    """
    try:
        found = open_in_root(root_fd, path, os.O_PATH)
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                return b""
            with open(f"/proc/self/fd/{found}", "rb") as file:
                return file.read(limit)
        finally:
            os.close(found)
    except OSError:
        return b""


def is_mount_point(dirfd: int, name: str) -> bool:
    """Tell whether something is mounted at `name` in the directory, in whichever mount namespace that is."""
    try:
        os.close(openat2(dirfd, name, os.O_PATH | os.O_NOFOLLOW, resolve=int(RESOLVE.NO_XDEV)))
    except SyscallError as e:
        if e.errno == errno.EXDEV:
            return True
        raise
    return False


def mkdirs_in_root(root_fd: int, path: str, mode: int = 0o755) -> int:
    """Make the directories of `path` that are missing inside `root_fd`; return the last one, opened with O_PATH.

    Links are followed inside the root, a dangling one too: what it names is made. Only real directories are ever passed
    through by name, one component at a time, so that no race of the container's can lead out.
    """
    remaining = path.split("/")[::-1]
    walked, links = "", 0
    current = _directory(root_fd, "/")
    try:
        while remaining:
            name = remaining.pop()
            if name in {"", "."}:
                continue
            try:
                below = _directory(root_fd, f"{walked}/{name}")
            except SyscallError as e:
                if e.errno != errno.ENOENT or name == "..":
                    raise
                target = _mkdir_or_link(current, name, mode)
                if target is not None:
                    links += 1
                    if links > _MAX_LINKS:
                        raise SyscallError(errno.ELOOP, "openat2", path) from None
                    remaining.extend(target.split("/")[::-1])
                    if target.startswith("/"):
                        walked = ""
                        os.close(current)
                        current = _directory(root_fd, "/")
                else:
                    remaining.append(name)
                continue
            os.close(current)
            current, walked = below, f"{walked}/{name}"
    except BaseException:
        os.close(current)
        raise
    return current


def _directory(root_fd: int, path: str) -> int:
    return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)


def _mkdir_or_link(dirfd: int, name: str, mode: int) -> str | None:
    """Make a directory; where a dangling link has the name, return what it points to."""
    try:
        os.mkdir(name, mode, dir_fd=dirfd)
    except FileExistsError:
        try:
            return os.readlink(name, dir_fd=dirfd)
        except OSError as e:
            if e.errno != errno.EINVAL:  # a directory by now: somebody else made it
                raise
    return None
