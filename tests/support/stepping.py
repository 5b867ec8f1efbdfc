"""Steps of builds done here: what a COPY or ADD takes, and the layer that it makes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from sampan.build import laying, selecting
from sampan.build.jobs import Item, Lay, Place, Select, Selected

TIME_NS = 1_700_000_000_000_000_000


class File(NamedTuple):
    """What a layer has at a path."""

    kind: str
    mode: int
    owner: tuple[int, int]
    content: str  # of a file, or a link's target


class Stepping:
    """A context, an image's files below it, and one layer after another."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self.context = directory / "context"
        self.image = directory / "image"
        for path in (self.context, self.image, directory / "layers", directory / "selections"):
            path.mkdir()
        self.memory = str(directory / "memory")
        self.parent: tuple[str, ...] = (str(self.image),)

    def item(self, *sources: str, ignore: tuple[str, ...] = (), keep_owners: bool = False, **how: object) -> Item:
        place = Place(directory=str(self.context), ignore=ignore, keep_owners=keep_owners)
        return Item(place=place, sources=sources, **how)

    def select(self, *items: Item) -> Selected:
        return selecting.select(Select(items=items, memory=self.memory, selections=str(self._directory / "selections")))

    def lay(self, items: tuple[Item, ...], destination: str, **how: object) -> laying.Laid:
        self._count += 1
        self.layer = self._directory / "layers" / str(self._count)
        return laying.lay(
            Lay(
                target=str(self.layer),
                items=items,
                destination=destination,
                parent=self.parent,
                memory=self.memory,
                **{"time_ns": TIME_NS, **how},
            )
        )

    def copy(self, sources: str, destination: str, *, of: dict[str, object] | None = None, **how: object) -> None:
        """COPY, with the sources in one string."""
        self.lay((self.item(*sources.split(), **(of or {})),), destination, **how)

    def files(self) -> dict[str, File]:
        """What the last layer has, less the directories that lead there only."""
        root = self.layer / "diff"
        return {str(path.relative_to(root)): seen(path) for path in sorted(root.rglob("*"))}


def seen(path: Path) -> File:
    status = path.lstat()
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe"}[
        stat.S_IFMT(status.st_mode)
    ]
    content = path.read_text() if kind == "file" else os.readlink(path) if kind == "link" else ""
    return File(kind, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid), content)


def write(root: Path, files: dict[str, str | None]) -> None:
    """Make files by path: a text is a file, None a directory, and `-> x` a link to x."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
