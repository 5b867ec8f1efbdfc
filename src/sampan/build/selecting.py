"""Find out which files a step takes, and their digest; and whether that is so little that it is done at once."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from sampan.build.jobs import Selected
from sampan.build.manifest import Digests, manifest_of
from sampan.build.selection import Trees, beginning, take
from sampan.build.trees import Directory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.build.jobs import Item, Select

MOST_FILES = 256
MOST_BYTES = 1 << 20


def select(job: Select) -> Selected:
    """Find out which files a step takes, and their digest."""
    with Trees() as trees, Digests(job.memory) as digests:
        manifest = manifest_of(take(job.items, trees, select=True), digests)
    manifest.tell(job.selections)
    return Selected(digest=manifest.digest, files=manifest.files, content_bytes=manifest.content_bytes)


def is_small(items: Iterable[Item]) -> bool:
    """Tell whether a process's start would cost more than to select these: a few files of a directory.

    No more than that is looked at to find out. A link in a source's path may lead anywhere: then it is not small.
    """
    files, size = MOST_FILES, MOST_BYTES
    with Trees() as trees:
        for item in items:
            if item.file is not None or item.identity:
                continue
            tree = trees.at(item.place) if item.place is not None and not item.place.layers else None
            if not isinstance(tree, Directory):
                return False
            for path in (beginning(item, source) for source in item.sources):
                first = tree.status(path)
                if first is None or stat.S_ISLNK(first.st_mode):
                    return False
                for status in tree.all_below(path) if stat.S_ISDIR(first.st_mode) else (first,):
                    files -= 1
                    size -= status.st_size if stat.S_ISREG(status.st_mode) else 0
                    if files < 0 or size < 0:
                        return False
    return True
