"""The contexts of a build, opened: local directories are read in place, others are got when they are needed."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from sampan.build import ignore, jobs
from sampan.errors import Conflict, InvalidInput, NotFound, doing
from sampan.kernel.path import RESOLVE, openat2
from sampan.spec.build import ContextKind

if TYPE_CHECKING:
    from sampan.engine.building.fetching import Fetching
    from sampan.spec.build import BuildRequest, ContextSource

_LARGEST = 16 << 20  # of a Dockerfile
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_INSIDE = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS
_NAMES = ("Dockerfile", "dockerfile", "Containerfile")


class Contexts:
    """Those of one build."""

    def __init__(self, request: BuildRequest, fetching: Fetching) -> None:
        self._request = request
        self.fetching = fetching
        self._patterns: tuple[str, ...] | None = None

    def dockerfile(self) -> tuple[str, str]:
        """Return the Dockerfile's text and what messages call it."""
        request = self._request
        if request.dockerfile is not None:
            return request.dockerfile, request.dockerfile_name
        if request.context is None:
            raise InvalidInput("can't build: there is neither a Dockerfile nor a context")
        if request.context.kind is ContextKind.URL and (name := self.fetching.context(request.context).name):
            return self._read(request.context, name) or "", request.context.value
        names = _NAMES if request.dockerfile_name in ("", _NAMES[0]) else (request.dockerfile_name,)
        for name in names:
            text = self._read(request.context, name)
            if text is not None:
                return text, name
        raise NotFound(f"failed to read dockerfile: open {names[0]}: no such file or directory", "name it with -f")

    def place(self, name: str) -> jobs.Place:
        """Return the tree of the context, "", or of a named one."""
        source = self._request.contexts.get(name) if name else self._request.context
        if source is None:
            raise InvalidInput("there is no context to copy from", "build with a directory: sampan build DIRECTORY")
        patterns = self._ignored() if not name else ignore.parse(self._read(source, ".dockerignore") or "")
        return jobs.Place(
            directory=self._directory(source),
            identity=_identity(source),
            ignore=patterns,
            keep_owners=source.kind in (ContextKind.TAR, ContextKind.URL) and source.keep_owners,
            name=f"the build context {name}" if name else "the build context",
        )

    def image(self, name: str) -> ContextSource | None:
        """Return a named context that is an image."""
        source = self._request.contexts.get(name)
        return source if source is not None and source.kind in (ContextKind.IMAGE, ContextKind.OCI_LAYOUT) else None

    def _ignored(self) -> tuple[str, ...]:
        """The Dockerfile's own .dockerignore comes before the context's; both files are always there for it."""
        if self._patterns is None:
            request = self._request
            text = request.ignore
            if text is None and request.context is not None:
                text = self._read(request.context, f"{request.dockerfile_name}.dockerignore")
                text = self._read(request.context, ".dockerignore") if text is None else text
            self._patterns = ignore.parse(text or "")
        return self._patterns

    def _directory(self, source: ContextSource) -> str:
        if source.kind is ContextKind.DIRECTORY:
            _check_seen(source)
            return source.value
        return self.fetching.context(source).directory

    def _read(self, source: ContextSource, name: str) -> str | None:
        """Read a small file of a context; None where there is none. Links lead nowhere out of it."""
        with doing(f"can't read {name} of the build context"):
            root = os.open(self._directory(source), _DIRECTORY)
            try:
                fd = openat2(root, name, _FILE, resolve=_INSIDE)
            except OSError as e:
                if e.errno in (errno.ENOENT, errno.ENOTDIR):
                    return None
                raise
            finally:
                os.close(root)
            with open(fd, "rb") as file:
                data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise InvalidInput(f"can't read {name} of the build context: it is larger than {_LARGEST} bytes")
        return data.decode(errors="surrogateescape")


def _identity(source: ContextSource) -> tuple[int, int] | None:
    if source.device is None or source.inode is None:
        return None
    return source.device, source.inode


def _check_seen(source: ContextSource) -> None:
    """Raise Conflict where the client sees another directory at that path than we do: it is sent then."""
    if source.device is None or source.inode is None:
        return
    try:
        seen = os.stat(source.value)
    except OSError:
        seen = None
    if seen is None or (seen.st_dev, seen.st_ino) != (source.device, source.inode):
        raise Conflict(f"can't see the directory {source.value} that the client sees", "send it as an archive")
