"""Files and directories as streams of bytes that a request sends."""

from __future__ import annotations

import os

from sampan.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_PIECE = 1 << 18


def file_pieces(path: str) -> Iterator[bytes]:
    """Open a file, or standard input for "-", and give its bytes. It is opened at once: its errors come first."""
    if path == "-":
        return _read(0)
    try:
        return _read(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as e:
        raise Failure(f"open {path}: {(e.strerror or '').lower()}") from None


def _read(descriptor: int) -> Iterator[bytes]:
    try:
        while piece := os.read(descriptor, _PIECE):
            yield piece
    except IsADirectoryError:
        raise Failure("read: is a directory", "name an archive") from None
    finally:
        if descriptor:
            os.close(descriptor)


def directory_pieces(path: str) -> Iterator[bytes]:
    """Give a directory as a tar stream: owners by number, extended attributes, nothing of what is mounted in it."""
    return written(lambda file: _archive(path, file), f"can't archive {path}")


def written(write: Callable[[BinaryIO], None], failure: str) -> Iterator[bytes]:
    """Give what `write` writes to a file, while it does so in a thread; its error is raised behind `failure`."""
    import threading

    reading, writing = os.pipe()
    failed: list[BaseException] = []

    def perform() -> None:
        try:
            with os.fdopen(writing, "wb") as file:
                write(file)
        except BrokenPipeError:
            pass
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=perform, daemon=True)
    thread.start()
    yield from _read(reading)
    thread.join()
    if failed:
        raise Failure(f"{failure}: {failed[0]}")


def _archive(path: str, file: object) -> None:
    import tarfile

    device = os.lstat(path).st_dev

    def prepared(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        where = os.path.join(path, member.name)
        if os.lstat(where).st_dev != device:
            return None
        member.uname = member.gname = ""
        headers: dict[str, str] = {}
        for name in _attributes(where):
            value = os.getxattr(where, name, follow_symlinks=False)
            headers[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
        member.pax_headers = headers
        return member

    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        for name in sorted(os.listdir(path)):
            tar.add(os.path.join(path, name), arcname=name, filter=prepared)


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:
        return []
