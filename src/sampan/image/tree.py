"""What is known of a layer's directories while it is unpacked, beside what is on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.image.tar import Entry


_NONE: frozenset[bytes] = frozenset()


class Directory:
    """One directory. `below` are those in it that something is known of. There may be millions; few have whiteouts."""

    __slots__ = ("below", "entry", "implied", "opaque", "whiteouts")

    def __init__(self) -> None:
        self.below: dict[bytes, Directory] = {}
        self.implied = False  # no member describes it
        self.opaque = False  # it hides what is below, so there are no whiteouts in it
        self.whiteouts: set[bytes] | frozenset[bytes] = _NONE
        self.entry: Entry | None = None  # what it is to be like when nothing is written in it any more

    def add_whiteout(self, name: bytes) -> None:
        """Put down that it has a whiteout of this name."""
        if isinstance(self.whiteouts, set):
            self.whiteouts.add(name)
        else:
            self.whiteouts = {name}

    def drop_whiteout(self, name: bytes) -> None:
        """Put down that it has none of this name any more."""
        if isinstance(self.whiteouts, set):
            self.whiteouts.discard(name)

    def describe(self, entry: Entry) -> None:
        """Put down what it is to be like; of attributes it keeps those that it had to get."""
        if self.entry is not None and self.entry.xattrs:
            entry.xattrs = tuple({**dict(self.entry.xattrs), **dict(entry.xattrs)}.items())
        self.entry = entry
        self.implied = False


class Tree:
    """The directories by path: relative, without links, b"" is the root.

    A tree and no table of paths: a later member may put something in the place of a directory with a hundred thousand
    others in it, again and again.
    """

    def __init__(self) -> None:
        self._root = Directory()

    def at(self, path: bytes) -> Directory:
        """Return the directory at `path`, known from now on."""
        found = self._root
        if path:
            for name in path.split(b"/"):
                below = found.below.get(name)
                if below is None:
                    below = found.below[name] = Directory()
                found = below
        return found

    def drop(self, path: bytes) -> None:
        """Forget the directory at `path` and all below it."""
        *above, name = path.split(b"/")
        found: Directory | None = self._root
        for part in above:
            if found is None:
                return
            found = found.below.get(part)
        if found is not None:
            found.below.pop(name, None)

    def __iter__(self) -> Iterator[tuple[bytes, Directory]]:
        """Every directory with its path, parents before children."""
        pending = [(b"", self._root)]
        while pending:
            path, directory = pending.pop()
            yield path, directory
            pending += [(path + b"/" + name if path else name, below) for name, below in directory.below.items()]
