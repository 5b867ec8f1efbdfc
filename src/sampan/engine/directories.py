"""A directory of this host as a tar stream, for `import /path`."""

from __future__ import annotations

import os
import tarfile
import threading

from sampan.errors import InvalidInput, doing


class _TarOf:
    """The reading end of a pipe into which a thread writes the tar. What goes wrong there is raised at the end here."""

    def __init__(self, path: str) -> None:
        self._path = path
        read, write = os.pipe2(os.O_CLOEXEC)
        self._read = os.fdopen(read, "rb", buffering=0)
        self._error: Exception | None = None
        threading.Thread(target=self._fill, args=(write,), name="tar", daemon=True).start()

    def _fill(self, write: int) -> None:
        try:
            with (
                os.fdopen(write, "wb") as pipe,
                tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as tar,
            ):
                tar.add(self._path, arcname=".")
        except Exception as e:
            self._error = e

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        data = self._read.read(size)
        if not data:
            self._read.close()
            if self._error is not None:
                with doing(f"can't read {self._path}"):
                    raise self._error
        return data


def tar_of(path: str) -> _TarOf:
    """Return a stream to read the tar of the directory `path` from."""
    if not os.path.isdir(path):
        raise InvalidInput(f"can't import {path}: it is no directory")
    return _TarOf(os.path.realpath(path))
