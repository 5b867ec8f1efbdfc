"""Small files of a layer, made by child processes while this one reads the next.

To make a file takes several times as long as to read one, and the kernel does most of that. A thread would not help:
both sides are in short calls all the time, and spend what they win on fighting for the interpreter's lock.

A child is told through a pipe what to make: a record of a kind, numbers and a name, and after a file's its content.
It ends when the pipe does, which it also does when this process is killed.
"""

from __future__ import annotations

import gc
import os
import struct
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from sampan.errors import Failed, doing
from sampan.image import inode, tar
from sampan.image.extract import open_beneath
from sampan.image.feed import enlarge

if TYPE_CHECKING:
    from sampan.image.tar import Entry

LARGEST = 1 << 17
"""As large as a small file may be."""

_RECORD = struct.Struct("<cIIIIqI")  # kind, length of the name, mode, uid, gid, time, size
_DIRECTORY, _FILE, _WAIT = b"D", b"F", b"W"
_ERRNO = struct.Struct("<I")
_BATCH = 1 << 14
_LONGEST_SHOWN = 300
MAKERS = min(2, os.cpu_count() or 1)
"""Child processes. More don't help: names come into a directory one at a time."""


class SmallFiles:
    """Makes new files. When `wait` has returned all are there. `stop` must be called at last."""

    def __init__(self, root: int, makers: int = MAKERS) -> None:
        """Begin, with the directory below which the files are open at `root`. No other thread may be at work.

        Without `makers` none may be added.
        """
        self._makers: list[_Maker] = []
        for _ in range(makers):
            self._makers.append(_Maker(root, self._makers))
        self._turn = 0
        self._directory: bytes | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._all_made = True

    def add(self, directory: bytes, name: bytes, entry: Entry, content: bytes) -> None:
        """Have a file made in a directory that is there, as `entry` describes it. Raises what failed before."""
        self._all_made = False
        if directory != self._directory:
            self._directory = directory
            self._waiting += (_RECORD.pack(_DIRECTORY, len(directory), 0, 0, 0, 0, 0), directory)
        head = _RECORD.pack(_FILE, len(name), entry.mode, entry.uid, entry.gid, entry.mtime_ns, len(content))
        self._waiting += (head, name, content)
        self._size += len(content) + _RECORD.size
        if self._size >= _BATCH:
            self._tell()

    def wait(self) -> None:
        """Return when all are made. Raises what failed."""
        if self._all_made:
            return
        self._tell()
        for maker in self._makers:
            maker.tell(_RECORD.pack(_WAIT, 0, 0, 0, 0, 0, 0))
        for maker in self._makers:
            maker.hear()
        self._all_made = True

    def stop(self) -> None:
        """End the children, which make before what they have been told of."""
        for maker in self._makers:
            maker.stop()

    def _tell(self) -> None:
        """Give one child what has gathered; the next batch is the next one's."""
        self._makers[self._turn].tell(b"".join(self._waiting))
        self._turn = (self._turn + 1) % len(self._makers)
        self._directory = None
        self._waiting.clear()
        self._size = 0


class _Maker:
    """One child, and the pipes to it and back."""

    def __init__(self, root: int, others: list[_Maker]) -> None:
        orders, self._orders = os.pipe2(os.O_CLOEXEC)
        self._answers, answers = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            for maker in (*others, self):  # a pipe ends when nobody has its other end
                os.close(maker._orders)
                os.close(maker._answers)
            _be_the_child(root, orders, answers)
        os.close(orders)
        os.close(answers)
        enlarge(self._orders)

    def tell(self, orders: bytes) -> None:
        """Send it; raises what failed before."""
        try:
            inode.write_all(self._orders, orders)
        except BrokenPipeError:
            self.hear()

    def hear(self) -> None:
        """Wait for its answer; raises what failed."""
        answer = os.read(self._answers, 4096)
        if not answer:
            raise Failed("the process that makes its files was killed")
        (number,) = _ERRNO.unpack_from(answer)
        if number:
            with doing(inode.show(answer[_ERRNO.size :])):
                raise OSError(number, os.strerror(number))

    def stop(self) -> None:
        """End it when it has made what it was told of."""
        os.close(self._orders)
        os.waitpid(self._pid, 0)
        os.close(self._answers)


def _be_the_child(root: int, orders: int, answers: int) -> NoReturn:
    status = 1
    try:
        gc.disable()
        os.umask(0)
        with open(orders, "rb", _BATCH) as file:
            _make_all(root, file, answers)
        status = 0
    finally:
        os._exit(status)


def _make_all(root: int, orders: BinaryIO, answers: int) -> None:
    directory = root
    while len(head := orders.read(_RECORD.size)) == _RECORD.size:
        kind, length, mode, uid, gid, mtime_ns, size = _RECORD.unpack(head)
        name, content = orders.read(length), orders.read(size)
        if len(name) + len(content) < length + size:  # cut short: who tells was killed
            return
        try:
            if kind == _FILE:
                _make(directory, tar.Entry(name, tar.REGULAR, mode, uid, gid, size, mtime_ns), content)
            elif kind == _DIRECTORY:
                if directory != root:
                    os.close(directory)
                directory = open_beneath(root, name)
            else:
                os.write(answers, _ERRNO.pack(0))
        except OSError as e:
            os.write(answers, _ERRNO.pack(e.errno or 0) + name[:_LONGEST_SHOWN])
            return


def _make(directory: int, entry: Entry, content: bytes) -> None:
    made_with_mode = not entry.mode & 0o7000  # open(2) does not give a file the other bits
    fd = os.open(entry.name, inode.NEW_FILE, entry.mode if made_with_mode else 0o600, dir_fd=directory)
    try:
        inode.write_all(fd, content)
        inode.describe(fd, entry, made_with_mode=made_with_mode)
    finally:
        os.close(fd)
