"""Copies what a directory of the container holds into the tmpfs that covers it: the option tmpcopyup.

Imported only where a plan has it. Names are followed through descriptors and no link is, so that nothing outside the
directory is read and nothing outside the tmpfs written.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20


def copy(covered: int, new: int, given: set[str]) -> None:
    """Copy from the directory `covered` to `new`; what is in `given` (uid, gid, mode) stays as it is."""
    source = os.open(f"/proc/self/fd/{covered}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        facts = os.fstat(source)
        os.fchown(new, -1 if "uid" in given else facts.st_uid, -1 if "gid" in given else facts.st_gid)
        if "mode" not in given:
            os.fchmod(new, stat.S_IMODE(facts.st_mode))
        _copy_below(source, new)
    finally:
        os.close(source)


def _copy_below(source: int, target: int) -> None:
    for name in os.listdir(source):
        facts = os.stat(name, dir_fd=source, follow_symlinks=False)
        match stat.S_IFMT(facts.st_mode):
            case stat.S_IFDIR:
                _copy_directory(name, source, target, facts)
            case stat.S_IFREG:
                _copy_file(name, source, target, facts)
            case stat.S_IFLNK:
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
                os.chown(name, facts.st_uid, facts.st_gid, dir_fd=target, follow_symlinks=False)
            case _:
                os.mknod(name, facts.st_mode, facts.st_rdev, dir_fd=target)
                os.chown(name, facts.st_uid, facts.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_directory(name: str, source: int, target: int, facts: os.stat_result) -> None:
    os.mkdir(name, 0o700, dir_fd=target)
    below, copied = os.open(name, _DIRECTORY, dir_fd=source), os.open(name, _DIRECTORY, dir_fd=target)
    try:
        _copy_below(below, copied)
        _copy_facts(below, copied, facts)
    finally:
        os.close(below)
        os.close(copied)


def _copy_file(name: str, source: int, target: int, facts: os.stat_result) -> None:
    here = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    there = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
    try:
        while os.sendfile(there, here, None, _CHUNK):
            pass
        _copy_facts(here, there, facts)
    finally:
        os.close(here)
        os.close(there)


def _copy_facts(source: int, target: int, facts: os.stat_result) -> None:
    os.fchown(target, facts.st_uid, facts.st_gid)
    os.fchmod(target, stat.S_IMODE(facts.st_mode))
    for name in os.listxattr(source):
        with suppress(OSError):  # one that a tmpfs doesn't have
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
