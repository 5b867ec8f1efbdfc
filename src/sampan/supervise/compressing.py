"""Compresses a log's rotated files in a process of its own, one after another, while the shim goes on.

The child writes PATH.gz.new. When it has ended, the shim, which alone gives files their names, renames it: the log may
have been rotated meanwhile, and the file have another number. A reader finds PATH.N or PATH.N.gz at any time, or both.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.kernel.fds import close_range
from sampan.kernel.process import pidfd_open
from sampan.supervise.loop import IN

if TYPE_CHECKING:
    from sampan.supervise.loop import Loop

_READ = 1 << 16
_NICE = 10
_GZIP = 31  # zlib's wbits: the largest window, with gzip's header
_LEVEL = 6


class Compressor:
    """One log's."""

    def __init__(self, loop: Loop, path: str, max_files: int) -> None:
        self._loop = loop
        self._path = path
        self._new = f"{path}.gz.new"
        self._max_files = max_files
        self._pid = 0
        self._pidfd = -1
        self._number = 0  # of the file that is being compressed; none has it any more from max_files on

    @property
    def busy(self) -> bool:
        """Whether a file is being compressed."""
        return self._pid > 0

    def move(self, newer: str, older: str) -> None:
        """Give a compressed file of the past its next name, in the place of what had that."""
        _remove(f"{older}.gz")
        if newer != self._path and os.path.exists(f"{newer}.gz"):
            os.rename(f"{newer}.gz", f"{older}.gz")
            _remove(newer)  # a shim was killed before it had removed it
            _remove(older)

    def rotated(self) -> None:
        """Take note that every file has its next name."""
        if self.busy:
            self._number += 1
        else:
            self._begin_next()

    def _begin_next(self) -> None:
        """Begin with the oldest file that is not compressed, if there is one."""
        for number in range(self._max_files - 1, 0, -1):
            if os.path.exists(f"{self._path}.{number}"):
                self._begin(number)
                return

    def _begin(self, number: int) -> None:
        try:
            source = os.open(f"{self._path}.{number}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            _remove(self._new)  # that of a killed shim's child, which may still write to it
            target = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            try:
                self._pid = os.fork()
                if self._pid == 0:
                    _compress(source, target)
            finally:
                os.close(target)
        except OSError:  # a full disk, or no process to be had: it stays as it is until the next rotation
            return
        finally:
            os.close(source)
        self._number = number
        self._pidfd = pidfd_open(self._pid)
        self._loop.watch(self._pidfd, IN, lambda _events: self._ended())

    def _ended(self) -> None:
        self._loop.forget(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        plain = f"{self._path}.{self._number}"
        try:
            if status == 0 and self._number < self._max_files and os.path.exists(plain):
                os.rename(self._new, f"{plain}.gz")
                os.unlink(plain)
            else:
                os.unlink(self._new)
        except OSError:  # the container has been removed
            return
        if status == 0:
            self._begin_next()


def _compress(source: int, target: int) -> None:
    """Be the child. Nothing of the container stays open in it: its standard input would not end before this has."""
    status = 1
    try:
        low, high = sorted((source, target))
        if low:
            close_range(0, low - 1)
        if low + 1 < high:
            close_range(low + 1, high - 1)
        close_range(high + 1)
        os.nice(_NICE)
        import zlib

        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        while data := os.read(source, _READ):
            _write(target, packer.compress(data))
        _write(target, packer.flush())
        written = os.fstat(source)
        os.utime(target, ns=(written.st_atime_ns, written.st_mtime_ns))  # by which who follows the log knows it
        status = 0
    finally:
        os._exit(status)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
