"""Make a layer of a directory that is in the store's form already: what a container wrote becomes a layer in its place.

Nothing is copied. What the tar would be is hashed and its recipe written, as `compose` does, while the files are read;
what is no part of the layer (mount points, files that were only opened for writing) is removed, then the directory gets
its new name.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from sampan.errors import InvalidInput, doing
from sampan.image import tarwrite
from sampan.image.compose import Digest, data_of
from sampan.image.extract import OPAQUE_MARK, WHITEOUT_PREFIX, Facts
from sampan.image.inode import show
from sampan.image.recipe import Recorder
from sampan.image.unpack import CONTENT, write_record
from sampan.kernel.trees import remove_tree
from sampan.spec.image import LayerResult

if TYPE_CHECKING:
    from sampan.image.tar import Entry

_PIECE = 1 << 18
_ROOT = b"."


class Settler:
    """Makes `directory` the content of the new layer `target`, to which nobody may write any more.

    with Settler(target, directory) as settler:
        settler.add(entry)                    # as with Composer, for each member that is in `directory`
        settler.add(entry, source_fd)
        result = settler.finish()
    """

    def __init__(self, target: str, directory: str) -> None:
        os.mkdir(target, 0o711)
        self._target = target
        self._directory = directory
        self._recipe = Recorder(target)
        self._digest = Digest()
        self._padding = b""  # of the last member
        self._members: set[bytes] = set()
        self._whiteouts: set[bytes] = set()
        self._root_described = False
        self._content_bytes = 0
        self._retimed: list[tuple[bytes, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._digest.stop()
        self._recipe.close()

    def add(self, entry: Entry, source: int | None = None, *, has_holes: bool = True) -> None:
        """Take in one member, the content of which is `source`."""
        parent, _, name = entry.name.rpartition(b"/")
        if source is not None and name.startswith(WHITEOUT_PREFIX):
            raise InvalidInput(f"{show(entry.name)}: names that begin with .wh. are a layer's marks of what is deleted")
        self._text(self._padding + tarwrite.header(entry))
        self._padding = tarwrite.padding(entry.size) if source is not None else b""
        if entry.name == _ROOT:
            self._root_described = True
        elif name == OPAQUE_MARK:
            pass
        elif name.startswith(WHITEOUT_PREFIX):
            self._whiteouts.add(parent)
            self._members.add(_join(parent, name.removeprefix(WHITEOUT_PREFIX)))
        else:
            self._members.add(entry.name)
        if source is not None:
            with doing(show(entry.name)[:300]):
                self._content(entry, source, has_holes=has_holes)

    def retime(self, name: bytes, mtime_ns: int) -> None:
        """Have a member's file get another time."""
        self._retimed.append((name, mtime_ns))

    def finish(self) -> LayerResult:
        """Remove what is no member, write the rest and move the directory: the layer is whole."""
        self._text(self._padding + tarwrite.END)
        self._recipe.finish()
        self._remove_others()
        for name, mtime_ns in self._retimed:
            os.utime(_join(os.fsencode(self._directory), name), ns=(mtime_ns, mtime_ns), follow_symlinks=False)
        os.rename(self._directory, f"{self._target}/{CONTENT}")
        digest, size = self._digest.finish()
        result = LayerResult(
            digest=digest, diff_id=digest, compressed_bytes=size, tar_bytes=size, content_bytes=self._content_bytes
        )
        facts = Facts(
            implied=[] if self._root_described else [b""],
            whiteouts=sorted(self._whiteouts),
            content_bytes=self._content_bytes,
        )
        write_record(self._target, result, facts)
        return result

    def _text(self, data: bytes) -> None:
        self._recipe.text(data)
        self._digest.update(data)

    def _content(self, entry: Entry, source: int, *, has_holes: bool) -> None:
        """Hash a file's content; one that has become shorter is an error: somebody writes to what is ours."""
        self._content_bytes += entry.size
        if entry.size:
            self._recipe.content(entry.name, entry.size)
        at = 0
        for start, end in data_of(source, entry.size) if has_holes else ((0, entry.size),):
            self._digest.zeros(start - at)
            at = start
            while at < end:
                piece = os.pread(source, min(_PIECE, end - at), at)
                if not piece:
                    raise InvalidInput("it became shorter while it was read")
                self._digest.update(piece)
                at += len(piece)
        self._digest.zeros(entry.size - at)

    def _remove_others(self) -> None:
        """Remove from the directory what no member describes."""
        pending = [b""]
        root = os.fsencode(self._directory)
        while pending:
            parent = pending.pop()
            with os.scandir(_join(root, parent)) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            for name, is_directory in found:
                path = _join(parent, name)
                if path in self._members:
                    if is_directory:
                        pending.append(path)
                elif is_directory:
                    remove_tree(os.fsdecode(_join(root, path)))
                else:
                    os.unlink(_join(root, path))


def _join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent and name else parent or name
