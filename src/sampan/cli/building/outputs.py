"""Outputs of a build that are files of the client's: an archive, or a directory into which one is unpacked."""

from __future__ import annotations

import os
import stat

from sampan.cli.failure import Failure
from sampan.cli.output import warn, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterable, Iterator
    from typing import Any

    Json = dict[str, Any]

CLIENT = ("local", "tar", "oci", "docker")
"""Types whose files come to the client."""


def check(output: Json) -> None:
    """Refuse a place that can't be written to before anything is built."""
    where = output["attributes"].get("dest", "")
    if output["type"] not in CLIENT or where in ("", "-"):
        if where == "-" and os.isatty(1):
            raise Failure(f"dest file is required for {output['type']} exporter. refusing to write to console")
        return
    if is_directory(output):
        if os.path.exists(where) and not os.path.isdir(where):
            raise Failure(f"can't write the output to {where}: not a directory")
    elif os.path.isdir(where):
        raise Failure(f"destination directory {where} is a directory: a {output['type']} output is a file", "add /NAME")
    elif not os.path.isdir(os.path.dirname(where)):
        raise Failure(f"can't write the output to {where}: no such directory: {os.path.dirname(where)}")


def title(output: Json) -> str:
    """Return how progress calls it, as BuildKit does."""
    kinds = {
        "local": "client directory",
        "tar": "client tarball",
        "oci": "oci image format",
        "docker": "docker image format",
    }
    return f"exporting to {kinds[output['type']]}"


def is_directory(output: Json) -> bool:
    """Tell whether an output is unpacked: local, and an OCI layout with tar=false."""
    return bool(output["type"] == "local" or output["attributes"].get("tar") == "false")


def write(output: Json, pieces: Iterable[bytes]) -> None:
    """Put the bytes where they belong."""
    where = output["attributes"].get("dest", "-")
    try:
        if is_directory(output):
            _unpack(where, pieces)
        elif where == "-":
            for piece in pieces:
                write_all(1, piece)
        else:
            _file(where, pieces)
    except OSError as e:
        raise Failure(f"can't write the output to {where}: {(e.strerror or str(e)).lower()}") from None


def _file(path: str, pieces: Iterable[bytes]) -> None:
    from sampan.kernel.newfile import new_file

    path = os.path.realpath(path)
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):  # a device or a pipe is written to
        with open(path, "wb", buffering=0) as file:
            for piece in pieces:
                write_all(file.fileno(), piece)
        return
    with new_file(path) as new:
        for piece in pieces:
            new.write(piece)


class _Stream:
    """Pieces as a file to read from."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


def _unpack(directory: str, pieces: Iterable[bytes]) -> None:
    """Unpack a tar as the user who asked for it: owners are left out, links are kept, devices are not made.

    Each name is looked up without following links: what an image has in it can't lead out of the directory.
    """
    import tarfile

    os.makedirs(directory, exist_ok=True)
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    modes: list[tuple[str, int]] = []
    devices = 0
    stream = _Stream(pieces)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                if member.isdev():
                    devices += 1
                else:
                    _member(root, tar, member, modes)
        while stream.read(1 << 16):
            pass
        if devices:
            warn(f"WARNING: devices are left out: {devices}")
        for name, mode in reversed(modes):  # at the end, or nothing could be put into a read-only one
            os.chmod(f"/proc/self/fd/{root}/{name}", mode)
    except tarfile.TarError as e:
        raise Failure(f"can't unpack the output into {directory}: {e}") from None
    finally:
        os.close(root)


def _member(root: int, tar: tarfile.TarFile, member: tarfile.TarInfo, modes: list[tuple[str, int]]) -> None:
    parts = _parts(member.name)
    if not parts:
        return
    if member.isdir():
        os.close(_enter(root, parts))
        modes.append(("/".join(parts), member.mode & 0o7777))
        return
    above = _enter(root, parts[:-1])
    try:
        _leaf(root, above, parts[-1], tar, member)
    finally:
        os.close(above)


def _leaf(root: int, above: int, name: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    try:
        os.unlink(name, dir_fd=above)
    except FileNotFoundError:
        pass
    if member.issym():
        os.symlink(member.linkname, name, dir_fd=above)
    elif member.islnk():
        target = _parts(member.linkname)
        beside = _enter(root, target[:-1])
        try:
            os.link(target[-1], name, src_dir_fd=beside, dst_dir_fd=above, follow_symlinks=False)
        finally:
            os.close(beside)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=above), "wb") as file:
            file.writelines(_content(tar, member))
            file.flush()  # what is written later would change the time
            os.fchmod(file.fileno(), member.mode & 0o7777)
            os.utime(file.fileno(), (member.mtime, member.mtime))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    content = tar.extractfile(member)
    while content is not None and (piece := content.read(1 << 18)):
        yield piece


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Failure(f"can't unpack the output: {name} leads out of it")
    return parts


def _enter(root: int, parts: list[str]) -> int:
    """Make and open a directory below `root`, component by component, none of which may be a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    current = os.dup(root)
    for part in parts:
        try:
            os.mkdir(part, 0o755, dir_fd=current)
        except FileExistsError:
            pass
        try:
            below = os.open(part, flags, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current
