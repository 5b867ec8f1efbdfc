"""The digest of what a step takes: a line for each file, with all that the layer will have of it but times.

With every line's own digest, cut short, the lines are kept for whoever wants to know later what has changed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Self

from sampan.build import selections
from sampan.build.contents import Contents, digest_of
from sampan.errors import InvalidInput, doing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.build.selection import Chosen, Taken
    from sampan.build.trees import Tree, Xattrs


_SHORT = 16


class Digests:
    """Finds digests of contents, remembered or read. Use it in a `with`: it remembers at the end."""

    def __init__(self, memory: str) -> None:
        self._memory = memory
        self._contents: dict[str, Contents] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for contents in self._contents.values():
            contents.save()

    def of(self, tree: Tree) -> Contents:
        """Return what is remembered of a tree's files."""
        contents = self._contents.get(tree.key)
        if contents is None:
            contents = self._contents[tree.key] = Contents(self._memory, tree.key)
        return contents

    def file(self, tree: Tree, chosen: Chosen) -> bytes:
        """Return the digest of a regular file's content and attributes."""
        contents = self.of(tree)
        return contents.get(chosen.status) or self._read(tree, chosen, contents)

    def _read(self, tree: Tree, chosen: Chosen, contents: Contents) -> bytes:
        with doing(f"can't read {chosen.path}"):
            fd = tree.open(chosen.path)
            try:
                before = os.fstat(fd)
                if not stat.S_ISREG(before.st_mode):
                    raise InvalidInput("it is no regular file any more")
                digest = combined(digest_of(fd, before.st_size), tree.xattrs(chosen.path, fd))
                if os.fstat(fd).st_ctime_ns == before.st_ctime_ns:
                    contents.put(before, digest)
            finally:
                os.close(fd)
        return digest


class Manifest:
    """Gathers the lines. Add what a step takes in its order; `digest` then."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._lines: list[tuple[str, bytes]] = []
        self._linked: dict[tuple[int, int], str] = {}
        self.files = 0
        self.content_bytes = 0

    @property
    def digest(self) -> str:
        """Of all that was added."""
        return f"sha256:{self._digest.hexdigest()}"

    def tell(self, directory: str) -> None:
        """Keep in `selections` which files they are, for whoever wants to know later what has changed."""
        if directory:
            pairs = ((name, hashlib.sha256(line).hexdigest()[:_SHORT]) for name, line in self._lines)
            selections.write(directory, self.digest, pairs)

    def begin(self, taken: Taken) -> None:
        """Begin with what one source came to."""
        self._linked.clear()
        if taken.identity:
            self._line(taken.identity, taken.identity.encode())
            return
        kind = "directory" if taken.is_directory else "archive" if taken.unpack else "file"
        name = "" if taken.is_directory else taken.name
        self._digest.update(f"{kind} {name!r}\n".encode())
        if taken.tree is None:
            self._line(taken.name, hashlib.sha256(taken.content).hexdigest().encode())
            self.files += 1
            self.content_bytes += len(taken.content)

    def add(self, tree: Tree, chosen: Chosen, digest: bytes = b"", extra: bytes = b"") -> None:
        """Put a file down: with the digest of a regular one, with a link's target or a device's number as `extra`."""
        status = chosen.status
        owner = (status.st_uid, status.st_gid) if tree.keeps_owners else (0, 0)
        kind = "passing" if chosen.passing else ""
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            first = self._linked.setdefault((status.st_dev, status.st_ino), chosen.target)
            kind = f"as {first!r}" if first != chosen.target else ""
        text = f"{chosen.target!r} {status.st_mode:o} {owner[0]} {owner[1]} {digest.hex()} {kind} "
        self._line(chosen.path, text.encode() + extra)
        self.files += 1
        self.content_bytes += status.st_size if digest else 0

    def _line(self, name: str, line: bytes) -> None:
        self._lines.append((name, line))
        self._digest.update(b"%d " % len(line) + line)


def manifest_of(all_taken: Iterable[Taken], digests: Digests) -> Manifest:
    """Read what is not known yet, and put all of it down."""
    manifest = Manifest()
    for taken in all_taken:
        manifest.begin(taken)
        for chosen in () if taken.identity else taken.chosen:
            assert taken.tree is not None
            describe(manifest, taken.tree, chosen, digests)
    return manifest


def describe(manifest: Manifest, tree: Tree, chosen: Chosen, digests: Digests, known: bytes | None = None) -> None:
    """Put one file down; `known` is the digest of its content, if it was read already."""
    mode = chosen.status.st_mode
    if stat.S_ISREG(mode):
        manifest.add(tree, chosen, known or digests.file(tree, chosen))
    elif stat.S_ISLNK(mode):
        extra = os.fsencode(tree.link(chosen.path)) + combined(b"", tree.xattrs(chosen.path))
        manifest.add(tree, chosen, extra=extra)
    else:
        extra = b"%d" % chosen.status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else b""
        manifest.add(tree, chosen, extra=extra + combined(b"", tree.xattrs(chosen.path)))


def combined(digest: bytes, xattrs: Xattrs) -> bytes:
    """Return the digest of a content and its attributes; without any it is the content's own."""
    if not xattrs:
        return digest
    together = hashlib.sha256(digest)
    for name, value in xattrs:
        together.update(b"%d %b %d " % (len(name), os.fsencode(name), len(value)) + value)
    return together.digest()
