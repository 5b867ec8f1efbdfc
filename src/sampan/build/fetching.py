"""Get a build's files from elsewhere: an archive unpacked, a file downloaded, a repository checked out.

The story of a worker process. Nothing that comes from there is trusted: an archive stays in its directory, git asks
nobody anything, reads no configuration of this machine's users and speaks no protocol that reads this machine's files.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from sampan.build import archives, remotes
from sampan.build.jobs import Fetch, Fetched
from sampan.errors import InvalidInput, doing
from sampan.image.compression import IN_PIECE, decompressed
from sampan.image.extract import Extractor
from sampan.image.inode import show
from sampan.image.tar import Reader
from sampan.kernel.trees import remove_tree

if TYPE_CHECKING:
    from typing import BinaryIO

_FILES, _TRASH = "files", "trash"
_ARCHIVE = os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC


def fetch(job: Fetch, fd: int | None) -> Fetched:
    """Do it. What fails leaves no `target`."""
    if not job.resolve:
        os.mkdir(job.target, 0o700)
        os.mkdir(f"{job.target}/{_FILES}", 0o755)
    try:
        match job.kind:
            case "archive":
                return _archive(job, fd)
            case "url":
                return _url(job)
            case "git":
                from sampan.build.git import checkout

                return checkout(job, f"{job.target}/{_FILES}")
    except BaseException:
        remove_tree(job.target)
        raise


def _archive(job: Fetch, fd: int | None) -> Fetched:
    with doing("can't read the build context"):
        if fd is not None:
            with open(fd, "rb", buffering=IN_PIECE, closefd=False) as file:
                _unpack(file, job.target)
        else:
            with open(os.open(job.value, _ARCHIVE), "rb", buffering=IN_PIECE) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a device or a pipe may have no end
                    raise InvalidInput(f"{job.value} is no file")
                _unpack(file, job.target)
    return Fetched(identity="", directory=f"{job.target}/{_FILES}")


def _url(job: Fetch) -> Fetched:
    from sampan.build.download import download

    name = remotes.file_name(job.value)
    directory = f"{job.target}/{_FILES}"
    digest = download(job.value, f"{directory}/{name}", job.checksum)
    identity = remotes.url_identity(job.value, digest)
    if job.unpack:
        with open(f"{directory}/{name}", "rb") as file:
            if archives.is_archive(file.fileno()):
                os.rename(f"{directory}/{name}", f"{job.target}/archive")
                file.seek(0)
                with doing(f"can't unpack {remotes.shown(job.value)}"):
                    _unpack(file, job.target)
                os.unlink(f"{job.target}/archive")
                return Fetched(identity=identity, directory=directory)
    return Fetched(identity=identity, directory=directory, name=name)


def _unpack(file: BinaryIO, target: str) -> None:
    """Unpack an archive into target/files."""
    reader = Reader(decompressed(file))
    root = os.open(f"{target}/{_FILES}", os.O_RDONLY | os.O_DIRECTORY)
    extractor = Extractor(root, _NoRecipe(f"{target}/{_TRASH}"), marks=False)
    try:
        while (entry := reader.next_entry()) is not None:
            try:
                extractor.write(entry, reader)
            except OSError:
                with doing(show(entry.name)[:300]):
                    raise
        if not reader.ended:
            raise InvalidInput("the tar archive is cut short", "it was not written or sent to its end")
        reader.drain()
        extractor.finish()
    finally:
        extractor.close()
        os.close(root)
        remove_tree(f"{target}/{_TRASH}")


class _NoRecipe:
    """Keeps nothing of what the archive was like; what a later member replaces goes to a directory of its own."""

    def __init__(self, trash: str) -> None:
        self._trash = trash
        self._count = 0

    def content(self, path: bytes, size: int, regions: tuple[tuple[int, int], ...] | None = None) -> None:
        """Nobody wants to know."""

    def move(self, dirfd: int, name: bytes, path: bytes) -> None:  # noqa: ARG002
        os.makedirs(self._trash, mode=0o700, exist_ok=True)
        self._count += 1
        os.rename(name, f"{self._trash}/{self._count}", src_dir_fd=dirfd)
